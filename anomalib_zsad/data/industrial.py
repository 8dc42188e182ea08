"""Industrial datasets that anomalib lacks or misreads, one class each."""

from anomalib_zsad.data.known_set import Facts, KnownSet
from anomalib_zsad.data.layouts import (
    CommutatorTiles,
    MaskBeside,
    MaskIfDefective,
    PosNeg,
    RailTiles,
    StateFolders,
)

_REPACKAGED = StateFolders()
_DTD_COUNTS = {
    "Blotchy_099": (20, 80),
    "Fibrous_183": (20, 80),
    "Marbled_078": (20, 80),
    "Matted_069": (20, 79),
    "Mesh_114": (36, 80),
    "Perforated_037": (20, 80),
    "Stratified_154": (20, 80),
    "Woven_001": (30, 70),
    "Woven_068": (51, 79),
    "Woven_104": (20, 80),
    "Woven_125": (20, 79),
    "Woven_127": (80, 80),
}


class BTAD(KnownSet):
    """beanTech Anomaly Detection: three products, read as it is unpacked, bmp and png mixed.

    Categories are texts, on the command line as well: `--data.categories '["02"]'`.
    """

    facts = Facts(
        origin="btad.zip of avires.dimi.uniud.it",
        tree="01, 02 and 03, each with {train/ok, test/{ok, ko}, ground_truth/ko},",
        layouts=[_REPACKAGED],
        folders={name: (name, f"BTech_Dataset_transformed/{name}") for name in ("01", "02", "03")},
        counts={"01": [(21, 49)], "02": [(30, 200)], "03": [(400, 41)]},
    )


class DAGM(KnownSet):
    """DAGM 2007: ten drawn textures, of which the `Test` folder is tested. The masks are coarse ellipses."""

    facts = Facts(
        origin="Kaggle, mhskjelvareid/dagm-2007-competition-dataset-optical-inspection",
        tree="Class1 to Class10, each with {Train, Test}/{NNNN.PNG, Label/NNNN_label.PNG},",
        layouts=[MaskIfDefective(), _REPACKAGED],
        folders={
            f"Class{number}": (
                f"Class{number}",
                f"DAGM_KaggleUpload/Class{number}",
                f"DAGM_anomaly_detection/Class{number}",
            )
            for number in range(1, 11)
        },
        counts={f"Class{number}": [575 if number <= 6 else 1150] for number in range(1, 11)},
    )


class DTDSynthetic(KnownSet):
    """DTD-Synthetic: twelve textures with drawn defects."""

    facts = Facts(
        origin="the Google Drive folder of Aota et al. (WACV 2023), 10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        tree="Blotchy_099 to Woven_127, each with {train/good, test/{good, bad}, ground_truth/bad},",
        layouts=[_REPACKAGED],
        folders={name: (name, f"DTD-Synthetic/{name}") for name in _DTD_COUNTS},
        counts={name: [count] for name, count in _DTD_COUNTS.items()},
    )


class KSDD2(KnownSet):
    """KolektorSDD2: surfaces of a production line, the official test images. Bayes-PFL's selection is read as well."""

    facts = Facts(
        origin="go.vicos.si/kolektorsdd2",
        tree="{train, test}/{NNNNN.png, NNNNN_GT.png}",
        layouts=[MaskBeside(), PosNeg(), _REPACKAGED],
        folders={"metal": (".", "KolektorSDD2", "KSDD2")},
        counts={"metal": [(894, 110), (356, 356)]},
    )


class RSDD(KnownSet):
    """RSDDs: strips of rail surfaces, cut into squares. Tiles that were cut by Bayes-PFL are read as they are."""

    facts = Facts(
        origin="IEEE DataPort, rsdds, or the surface defect list of Charmve on GitHub",
        tree="{Type-I, Type-II} RSDDs dataset/{Rail surface images, GroundTruth}/rail_N.jpg",
        layouts=[RailTiles(), PosNeg(), _REPACKAGED],
        folders={"rail": (".", "RSDDs dataset", "RSDDs", "Metal15")},
        counts={"rail": [(387, 387)]},
    )


class SDD(KnownSet):
    """KolektorSDD: surfaces of electrical commutators, cut into thirds; or a copy that is cut already.

    The split into normal tiles to test and others is not published. This one has AdaCLIP's share, and its own choice.
    """

    facts = Facts(
        origin="go.vicos.si/kolektorsdd",
        tree="kos01 to kos50, each with {PartM.jpg, PartM_label.bmp},",
        layouts=[CommutatorTiles(), _REPACKAGED],
        folders={"electrical_commutator": (".", "KolektorSDD", "SDD", "electrical commutators")},
        counts={"electrical_commutator": [(286, 54), (181, 74)]},
    )
