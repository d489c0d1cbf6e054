"""Vision transformers for small images, built of timm's parts."""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sgabench.errors import InputError
from sgabench.plugins import ImageSpec


def small_vit(spec: ImageSpec, patch: int, depth: int, width: int, heads: int) -> nn.Module:
    """ViT-Lite (Hassani et al. 2021, arXiv 2104.05704): small patches, narrow, and linear layers of twice the width.

    Args:
        spec: of the images.
        patch: side of a patch in pixels.
        depth: blocks.
        width: of the embedding.
        heads: of the attention.

    Raises:
        InputError: patches do not fill the image, or heads do not divide the width.
    """
    if spec.height % patch or spec.width % patch:
        raise InputError(f"patch: {patch} does not divide images of {spec.height} x {spec.width}")
    if width % heads:
        raise InputError(f"heads: {heads} do not divide the width {width}")
    network: nn.Module = VisionTransformer(
        img_size=(spec.height, spec.width),
        patch_size=patch,
        in_chans=spec.channels,
        num_classes=spec.classes,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=2,
        qkv_bias=False,
    )
    return network
