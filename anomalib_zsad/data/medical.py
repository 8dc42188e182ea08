"""Medical datasets that anomalib lacks or misreads, one class each.

BrainMRI, Br35H, HeadCT and COVID-19 have no masks; ColonDB, ClinicDB, Kvasir, CVC-300, Endo, ISIC and TN3K no normal
image.
"""

from anomalib_zsad.data.known_set import Facts, KnownSet
from anomalib_zsad.data.layouts import BMADFolders, ImageMaskFolders, LabelsCsv, StateFolders, TwoFolders

_REPACKAGED = StateFolders()
_WITHOUT_MASKS = StateFolders(truth=None)
_IMAGES_MASKS = ImageMaskFolders()
_POLYPS = "figshare, Polyp_DataSet_zip 21221579"
_ISIC = "ISBI2016_ISIC_Part1_Test"


class BMADSegmentation(KnownSet):
    """The sets of BMAD with masks: brain MRI, liver CT and retina OCT (RESC), whichever name their masks' folder has.

    Papers call its categories datasets: "BrainMRI" is this one's Brain where it has pixel figures.
    """

    facts = Facts(
        origin="the links of DorisBao/BMAD on GitHub",
        tree="Brain, Liver and Retina_RESC, each with {train/good, test/{good/img, Ungood/{img, label}}},",
        layouts=[BMADFolders()],
        folders={name: (name, f"{name}_AD") for name in ("Brain", "Liver", "Retina_RESC")},
        counts={"Brain": [(640, 3075)], "Liver": [(833, 660)], "Retina_RESC": [(1041, 764)]},
    )


class BrainMRI(KnownSet):
    """Brain MRI slices with and without a tumour (Kaggle), no masks. BMAD's set of this name is `BMADSegmentation`."""

    facts = Facts(
        origin="Kaggle, navoneel/brain-mri-images-for-brain-tumor-detection",
        tree="{no, yes}/*",
        layouts=[TwoFolders(), _WITHOUT_MASKS],
        folders={"brain": (".", "brain_tumor_dataset", "brain_mri", "brain")},
        counts={"brain": [(98, 155)]},
    )


class Br35H(KnownSet):
    """Brain MRI slices with and without a tumour, no masks."""

    facts = Facts(
        origin="Kaggle, ahmedhamada0/brain-tumor-detection",
        tree="{no, yes}/*.jpg",
        layouts=[TwoFolders(), _WITHOUT_MASKS],
        folders={"brain": (".", "br35h", "brain")},
        counts={"brain": [(1500, 1500)]},
    )


class HeadCT(KnownSet):
    """Head CT slices with and without a haemorrhage, no masks."""

    facts = Facts(
        origin="Kaggle, felipekitamura/head-ct-hemorrhage",
        tree="labels.csv and head_ct/head_ct/NNN.png",
        layouts=[LabelsCsv(), _WITHOUT_MASKS],
        folders={"head": (".", "headct", "brain")},
        counts={"head": [(100, 100)]},
    )


class COVID19(KnownSet):
    """Chest X-rays, normal and with COVID-19. The masks of the download show lungs, not lesions, and are not read."""

    facts = Facts(
        origin="Kaggle, tawsifurrahman/covid19-radiography-database",
        tree="{Normal, COVID}/images/*.png",
        layouts=[TwoFolders(normal="Normal", anomalous=("COVID", "COVID-19", "COVID19")), _WITHOUT_MASKS],
        folders={"chest": (".", "COVID-19_Radiography_Dataset", "chest")},
        counts={"chest": [(1341, 219), (10192, 3616)]},
    )


class ISIC(KnownSet):
    """ISIC 2016, test images of part 1: skin lesions."""

    facts = Facts(
        origin="challenge.isic-archive.com (2016, task 1)",
        tree=f"{_ISIC}_Data/ISIC_N.jpg and {_ISIC}_GroundTruth/ISIC_N_Segmentation.png",
        layouts=[
            ImageMaskFolders(f"{_ISIC}_Data", f"{_ISIC}_GroundTruth"),
            StateFolders(truth=("ground_truth", f"{_ISIC}_GroundTruth")),
        ],
        folders={"skin": (".", "skin", "ISBI/skin", "isic")},
        counts={"skin": [(0, 379)]},
    )


class ColonDB(KnownSet):
    """CVC-ColonDB: polyps."""

    facts = Facts(
        origin=_POLYPS,
        tree="{images, masks}/N.png",
        layouts=[_IMAGES_MASKS, _REPACKAGED],
        folders={"colon": (".", "CVC-ColonDB", "ColonDB")},
        counts={"colon": [(0, 380)]},
    )


class ClinicDB(KnownSet):
    """CVC-ClinicDB: polyps."""

    facts = Facts(
        origin=f"{_POLYPS}, or the grand challenge of CVC-ClinicDB",
        tree="{images, masks}/N.png, or {Original, Ground Truth}/N.tif,",
        layouts=[_IMAGES_MASKS, ImageMaskFolders("Original", "Ground Truth"), _REPACKAGED],
        folders={"colon": (".", "CVC-ClinicDB", "ClinicDB")},
        counts={"colon": [(0, 612)]},
    )


class Kvasir(KnownSet):
    """Kvasir-SEG: polyps. The masks of the original download are JPEG files and are cut between the grey levels."""

    facts = Facts(
        origin=f"datasets.simula.no/kvasir-seg, or {_POLYPS}",
        tree="{images, masks}/*",
        layouts=[_IMAGES_MASKS, _REPACKAGED],
        folders={"colon": (".", "Kvasir-SEG", "Kvasir")},
        counts={"colon": [(0, 1000)]},
    )


class CVC300(KnownSet):
    """CVC-300: polyps, the 60 images of PraNet's test sets."""

    facts = Facts(
        origin=_POLYPS,
        tree="{images, masks}/N.png",
        layouts=[_IMAGES_MASKS, _REPACKAGED],
        folders={"colon": (".", "CVC-300")},
        counts={"colon": [(0, 60)]},
    )


class Endo(KnownSet):
    """EndoTect 2020, test images of the segmentation task: polyps."""

    facts = Facts(
        origin="endotect.com, or the link in the README of AnomalyCLIP",
        tree="{images, masks}/*",
        layouts=[_IMAGES_MASKS, _REPACKAGED],
        folders={"colon": (".", "EndoTect_2020_Segmentation_Test_Dataset", "endo")},
        counts={"colon": [(0, 200)]},
    )


class TN3K(KnownSet):
    """TN3K, test images: thyroid nodules in ultrasound. Masks that are JPEG files are cut between the grey levels."""

    facts = Facts(
        origin="the links of haifangong/TRFE-Net-for-thyroid-nodule-segmentation on GitHub",
        tree="{test-image, test-mask}/N.jpg, or {images, masks}/*,",
        layouts=[ImageMaskFolders("test-image", "test-mask"), _IMAGES_MASKS, _REPACKAGED],
        folders={"thyroid": (".", "tn3k", "TN3K", "Thyroid Dataset/tn3k")},
        counts={"thyroid": [(0, 614)]},
    )
