"""Which networks can be pruned: docs/compatibility.md is the output of this.

python benchmarks/compatibility.py ROWS.jsonl   # all networks that are not in the file, then the page
python benchmarks/compatibility.py NAME         # one network; prints what was found as JSON

Every network is built at the smallest of a few sizes that it takes, trained for a step, pruned by half in every way,
and run; without channels, and with single weights at zero, also trained for another step, stored and loaded. Channels
are removed under the pruner's own proof: without them, the network gives what it gives with them, and
all that reads them, at zero.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import timm  # noqa: F401 - so that it is imported once
import torch
import torchvision  # noqa: F401
from torch import Tensor, nn

from sgabench.errors import InputError, describe
from sgabench.models.layers import input_and_classifier, prunable_layers, prunable_weights
from sgabench.models.state import load_tensors
from sgabench.plugins import ImageSpec, PruningContext, models, pruners
from sgabench.system.environment import PeakMemory

SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256)
LIMIT = 3600  # seconds for a network: a minute on an idle machine, many on a busy one
RATIO = 0.5
PATTERNS = ("2:4", {"block": [4, 4]}, "filters")  # beside single weights and channels
FAMILIES: dict[str, list[str]] = {
    "ResNet": ["resnet56", "timm:resnet18", "torchvision:resnet50", "timm:resnet26d"],
    "pre-activation ResNet": ["timm:resnetv2_50"],
    "normalizer-free": ["timm:nf_resnet26"],
    "ResNeXt": ["torchvision:resnext50_32x4d", "timm:resnext26ts", "timm:seresnext26d_32x4d"],
    "ResNeSt": ["timm:resnest14d"],
    "Res2Net": ["timm:res2net50_14w_8s"],
    "SelecSLS": ["timm:selecsls42b"],
    "SKNet": ["timm:skresnet18"],
    "VGG": ["torchvision:vgg11_bn", "timm:repvgg_a0"],
    "AlexNet": ["torchvision:alexnet"],
    "SqueezeNet": ["torchvision:squeezenet1_1"],
    "Inception": ["torchvision:googlenet", "timm:inception_next_atto"],
    "Xception": ["timm:xception41"],
    "DenseNet": ["torchvision:densenet121"],
    "DPN": ["timm:dpn48b"],
    "DLA": ["timm:dla46_c"],
    "VoVNet": ["timm:ese_vovnet19b_dw"],
    "HRNet": ["timm:hrnet_w18_small"],
    "CSPNet": ["timm:cspresnet50"],
    "MobileNet": ["torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small", "timm:mobilenetv4_conv_small"],
    "MNASNet": ["torchvision:mnasnet0_5"],
    "EfficientNet": ["timm:efficientnet_b0", "timm:tinynet_e"],
    "RegNet": ["torchvision:regnet_x_400mf", "torchvision:regnet_y_400mf"],
    "ReXNet": ["timm:rexnet_100"],
    "GhostNet": ["timm:ghostnet_050", "timm:ghostnetv2_100"],
    "ShuffleNet": ["torchvision:shufflenet_v2_x0_5"],
    "HardCoRe": ["timm:hardcorenas_a", "timm:lcnet_050"],
    "ConvNeXt": ["timm:convnext_atto", "timm:convnextv2_atto"],
    "ConvMixer": ["timm:convmixer_768_32"],
    "EdgeNeXt": ["timm:edgenext_xx_small"],
    "FastViT": ["timm:fastvit_t8"],
    "MobileOne": ["timm:mobileone_s0"],
    "RepViT": ["timm:repvit_m1"],
    "PoolFormer": ["timm:poolformer_s12"],
    "MetaFormer": ["timm:caformer_s18"],
    "ViT": ["timm:vit_tiny_patch16_224", "timm:eva02_tiny_patch14_224"],
    "DeiT": ["timm:deit_tiny_distilled_patch16_224"],
    "CaiT": ["timm:cait_xxs24_224"],
    "XCiT": ["timm:xcit_nano_12_p16_224"],
    "PiT": ["timm:pit_ti_224"],
    "Swin": ["timm:swin_tiny_patch4_window7_224", "torchvision:swin_t", "timm:swinv2_tiny_window8_256"],
    "CoAtNet": ["timm:coatnet_nano_rw_224", "timm:coatnet_0_rw_224"],
    "LeViT": ["timm:levit_128s"],
    "EfficientViT": ["timm:efficientvit_b0", "timm:efficientvit_m0"],
    "EfficientFormer": ["timm:efficientformer_l1"],
    "MobileViT": ["timm:mobilevit_xxs", "timm:mobilevitv2_050"],
    "PVT": ["timm:pvt_v2_b0"],
    "Twins": ["timm:twins_pcpvt_small"],
    "Mixer": ["timm:mixer_s32_224", "timm:resmlp_12_224", "timm:gmlp_ti16_224"],
    "Sequencer": ["timm:sequencer2d_s"],
    "CrossViT": ["timm:crossvit_tiny_240"],
    "Visformer": ["timm:visformer_tiny"],
    "TinyViT": ["timm:tiny_vit_5m_224"],
}


def built(name: str) -> tuple[nn.Module, ImageSpec]:
    """A network at the smallest size at which it takes a step."""
    source, _, architecture = name.rpartition(":")
    for side in SIDES:
        spec = ImageSpec(3, side, side, 10)
        try:
            torch.manual_seed(0)
            plugin = models[f"{source}:{architecture}" if source else architecture]
            network = plugin.build(spec)
            step(network, spec)
            return network.eval(), spec
        except Exception as error:  # of any kind: the network is too large for the images
            reason = describe(error)
    raise InputError(f"cannot be built: {reason}")


def step(network: nn.Module, spec: ImageSpec) -> None:
    """A step of training on noise."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    logits = network.train()(noise(spec, 8))  # with fewer, statistics over one place each mean little
    torch.nn.functional.cross_entropy(logits, torch.arange(8)).backward()
    optimizer.step()
    optimizer.zero_grad()
    network.eval()


def noise(spec: ImageSpec, count: int) -> Tensor:
    """Images."""
    return torch.randn(count, 3, spec.height, spec.width, generator=torch.Generator().manual_seed(1))


def used(network: nn.Module, spec: ImageSpec) -> None:
    """Run, train and store a pruned network, and load it again.

    Raises:
        ValueError: it does not give numbers, or others after it was stored.
    """
    with torch.no_grad():
        logits = network(noise(spec, 2))
    if logits.shape != (2, 10) or not torch.isfinite(logits).all():
        raise ValueError(f"logits {tuple(logits.shape)}")
    twin = copy.deepcopy(network)
    state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in network.state_dict().items()}
    load_tensors(twin, safetensors.torch.load(safetensors.torch.save(state)))
    with torch.no_grad():
        if not torch.equal(twin(noise(spec, 2)), logits):
            raise ValueError("other logits after it was stored and loaded")
    step(twin, spec)


def examine(name: str) -> dict[str, Any]:
    """All that the page says of a network."""
    found: dict[str, Any] = {"name": name}
    try:
        network, spec = built(name)
    except InputError as error:
        return {**found, "error": str(error)}
    params = sum(p.numel() for p in network.parameters())
    found |= {"side": spec.height, "params": params}
    inputs, classifier = input_and_classifier(network, noise(spec, 1))
    made: dict[str, Any] = {}

    def once(name: str, make: Callable[[], Any]) -> Any:
        if name not in made:
            made[name] = make()
        return made[name]

    context = PruningContext(spec, 0, lambda: iter([(noise(spec, 4), torch.zeros(4))]), inputs | classifier, once)
    for pruner in ("structured", "magnitude"):
        made.clear()
        memory = PeakMemory("cpu")
        try:
            started = time.process_time()
            pruned = pruners[pruner].build(copy.deepcopy(network), RATIO, context)
            first, held = time.process_time() - started, memory.growth() / 2**20
            again = time.process_time()
            pruners[pruner].build(copy.deepcopy(network), 0.3, context)
            row = {"seconds": first, "further": time.process_time() - again, "memory": held}
            used(pruned, spec)
            row["removed"] = 1 - sum(p.numel() for p in pruned.parameters()) / params
            row["zeros"] = 1 - sum(int(p.count_nonzero()) for p in pruned.parameters()) / params
            row["kept_whole"] = len(context.notes.get("kept_whole", []))
            row["layers"] = len(prunable_layers(network, context.excluded))
        except InputError as error:
            row = {"refused": str(error)}
        except Exception as error:  # of any kind, and a fault of ours
            row = {"error": describe(error)}
        found[pruner] = row
    found["patterns"] = {str(pattern): with_pattern(network, pattern, context) for pattern in PATTERNS}
    return found


def with_pattern(network: nn.Module, pattern: Any, context: PruningContext) -> str:
    """Why weights cannot be pruned in a pattern; nothing where they can."""
    try:
        once = replace(context, once=lambda name, make: make())
        pruned = pruners["magnitude"].build(copy.deepcopy(network), RATIO, once, pattern=pattern)
        with torch.no_grad():
            if not torch.isfinite(pruned(noise(context.images, 2))).all():
                raise ValueError("logits that are not finite")
        layers = prunable_weights(pruned, context.excluded).values()
        zeros = sum(int((weight == 0).sum()) for weight in layers) / sum(weight.numel() for weight in layers)
        # blocks and rows of four at an edge are smaller, and filters of several sizes
        return "" if abs(zeros - RATIO) < 0.1 else f"{zeros:.0%} of the weights are zero"
    except InputError as error:
        return str(error)
    except Exception as error:  # of any kind, and a fault of ours
        return describe(error)


def main() -> None:
    """Examine one network, or all of them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    examine("resnet8")  # what only the first one has to import and to set up
    if not sys.argv[1].endswith(".jsonl"):
        print(json.dumps(examine(sys.argv[1])))
        return
    path = Path(sys.argv[1])
    rows = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    names = [name for family in FAMILIES.values() for name in family]
    for name in names:
        if name not in rows:
            rows[name] = in_a_process(name)
            with path.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
    print(page([rows[name] for name in names]))


def in_a_process(name: str) -> dict[str, Any]:
    """What is found of a network, whatever happens to the process that looks."""
    context = multiprocessing.get_context("fork")  # which has imported everything already
    results = context.SimpleQueue()
    process = context.Process(target=lambda: results.put(examine(name)))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        return {"name": name, "error": f"not finished after {LIMIT} s"}
    if results.empty():
        return {"name": name, "error": f"exit code {process.exitcode}"}
    found: dict[str, Any] = results.get()
    return found


def page(rows: list[dict[str, Any]]) -> str:
    """The documentation's page."""
    removed = [row for row in rows if row.get("structured", {}).get("removed", 0) > 0]
    lines = [
        "# Which networks can be pruned",
        "",
        "<!-- The output of benchmarks/compatibility.py. -->",
        "",
        f"{len(rows)} networks of {len(FAMILIES)} families: channels are really removed in {len(removed)}.",
        "",
        "All rows are of one run of one state of the code. Each network is built at the smallest of a few image",
        "sizes that it accepts, trained for a step, and pruned by half (of its parameters, or as far as possible):",
        "by single weights and by channels, then trained for another step, saved and loaded; with the patterns 2:4,",
        "blocks of 4 x 4 and filters, then run. Layers whose channels cannot be removed without changing what the",
        "others compute are kept whole; a cell's record names them (`kept_whole`). Layers whose outputs are added",
        "to those of the input layer keep their channels, too, because that layer is excluded.",
        "",
        "The list and the code were made with the results of earlier runs in sight: networks that failed were",
        "mended. So read the share as what works, not as an estimate for networks that nobody has tried.",
        "",
        "| network | size | parameters | weights | other patterns | parameters removed with channels "
        "| layers kept whole | processor time (s) | a further ratio (s) | memory |",
        "|---|---:|---:|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        channels, weights = row.get("structured", {}), row.get("magnitude", {})
        if "side" not in row:
            lines.append(f"| `{row['name']}` | — | — | {row['error']} | — | — | — | — | — | — |")
            continue
        cells = [f"`{row['name']}`", f"{row['side']}", f"{row['params'] / 1e6:.1f} M"]
        cells.append("yes" if "removed" in weights else str(weights.get("refused") or weights.get("error")))
        problems = [f"{pattern}: {reason}" for pattern, reason in row["patterns"].items() if reason]
        cells.append("; ".join(problems) or "yes")
        refused = channels.get("refused") or channels.get("error")
        if refused:
            cells += [f"none: {refused}", "—", "—", "—", "—"]
        else:
            cells += [f"{channels['removed']:.0%}", f"{channels['kept_whole']} of {channels['layers']}"]
            cells += [f"{channels['seconds']:.1f}", f"{channels['further']:.1f}"]
            cells.append(f"{channels['memory']:.0f} MiB ({channels['memory'] / (row['params'] * 4 / 2**20):.1f}x)")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Processor time of one thread, the search for what can be removed included. Memory: the most that pruning",
        "to the first ratio held beyond the dense network, the copy that is pruned included, also as a multiple of",
        "the network's size. Activations of four images count, too, which weigh most where networks are small or",
        "images large.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
