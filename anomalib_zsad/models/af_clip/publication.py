"""The adapters that the authors of AF-CLIP published. They state no licence for them."""

from functools import partial

from anomalib_zsad.models.af_clip.released import read_released
from anomalib_zsad.models.parts.publication import Publication

_published = partial(
    Publication,
    method="AFClip",
    folder="af_clip",
    repository="Faustinaqq/AF-CLIP",
    commit="bb7edec4128a76f29cb573cd3002538bf250b2fe",
    read=read_released,
)

PUBLICATIONS = {
    "released/visa": _published(
        dataset="VisA",
        blobs={
            "weight/visa_prompt.pt": "e05bee61b1f26e085362298be63bc1c4cb01311b",
            "weight/visa_adaptor.pt": "17e206c114b9dc6f4c5aa1b5706ff54240c50ddd",
        },
    ),
    "released/mvtec": _published(
        dataset="MVTec",
        blobs={
            "weight/mvtec_prompt.pt": "9d52021f48946d3fe9e6b1780f120137adfb9b82",
            "weight/mvtec_adaptor.pt": "bfb640436055e9140b843520cc07dd354d599e0d",
        },
    ),
}
"""By the name for `weights=`."""
