"""What a method needs of its backbone."""

from typing import NamedTuple

from anomalib_zsad.clip.named import has_class_token, is_timm


class Needs(NamedTuple):
    """What a method needs of its backbone, checked before any weights are looked for.

    Args:
        method: The class of the model.
        plain: Why only a plain CLIP vision transformer will do, as "it changes ..."; "" where others will.
        class_token: Why a class token is needed; "" where none is.
    """

    method: str
    plain: str = ""
    class_token: str = ""

    def check(self, backbone: str) -> None:
        """Check a backbone by its name.

        Raises:
            ValueError: If the method cannot use it.
        """
        if self.plain and is_timm(backbone):
            what, why, such = "a vision tower of timm", self.plain, "a plain CLIP such as ViT-L-14-336"
        elif self.class_token and not has_class_token(backbone):
            what, why = "no class token", self.class_token
            such = "one with a class token such as ViT-L-14-336, PE-Core-L-14-336 or EVA02-L-14-336"
        else:
            return
        msg = f"{self.method} cannot use the backbone {backbone!r}, which has {what}: {why}; expected {such}"
        raise ValueError(msg)
