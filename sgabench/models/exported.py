"""Export networks to the formats of other programs, checked to give the same logits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sgabench.errors import InputError, foreign
from sgabench.plugins import ImageSpec

TOLERANCE = 1e-4  # of logits, relative to the largest


def export_program(network: nn.Module, path: Path, spec: ImageSpec) -> None:
    """Write a network with `torch.export`, for at least 2 images.

    Raises:
        InputError: torch cannot export it, or the exported network gives different logits.
    """
    images = _images(spec)
    with foreign(f"{path.name}: torch.export: "):
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("images", min=2)},))
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
        with torch.inference_mode():
            _compare(network, loaded(_images(spec, 5)), path, spec)


def export_onnx(network: nn.Module, path: Path, spec: ImageSpec) -> None:
    """Write a network as ONNX, for any number of images.

    Raises:
        InputError: onnx, onnxscript or onnxruntime is not installed; torch cannot export it, or the exported network
            gives different logits.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--onnx: needs {error.name}: the extra export: pip install onnx onnxruntime onnxscript"
        ) from None
    images = _images(spec)
    with foreign(f"{path.name}: torch.onnx: "):
        shapes = ({0: torch.export.Dim("images", min=2)},)
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=shapes,
        )
        assert program is not None
        program.save(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": _images(spec, 5).numpy()})
        _compare(network, torch.from_numpy(found), path, spec)


def _images(spec: ImageSpec, number: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, spec.channels, spec.height, spec.width, generator=generator)


@torch.inference_mode()
def _compare(network: nn.Module, found: Tensor, path: Path, spec: ImageSpec) -> None:
    expected = network(_images(spec, 5))
    if float((expected - found).abs().max()) > TOLERANCE * max(1.0, float(expected.abs().max())):
        raise InputError(f"{path.name}: the exported network gives different logits")
