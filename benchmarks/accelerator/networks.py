"""The networks `pretrained` and `compact` in PyTorch, layer for layer, so that their weights fit the Keras networks of the package."""
import math

import torch
import torch.nn.functional as F
from torch import nn

STAGES = ((1, 1, 16, 3, 1), (2, 6, 24, 3, 2), (2, 6, 40, 5, 2), (3, 6, 80, 3, 2), (3, 6, 112, 5, 1), (4, 6, 192, 5, 2), (1, 6, 320, 3, 1))
SCALES = {"lite0": (1.0, 1.0), "lite1": (1.1, 1.0), "lite2": (1.2, 1.1)}  # depth, width


def same(tensor, size, stride):
    "The tensor, padded with zeros as TensorFlow's padding `same` does."
    pads = []
    for length in (tensor.shape[3], tensor.shape[2]):
        total = max(0, (math.ceil(length / stride) - 1) * stride + size - length)
        pads += [total // 2, total - total // 2]
    return F.pad(tensor, pads) if any(pads) else tensor


class Convolution(nn.Conv2d):
    "A convolution whose padding is TensorFlow's `same`."

    def __init__(self, channels, filters, size=1, stride=1, groups=1, bias=True):
        super().__init__(channels, filters, size, stride, padding=size // 2 if stride == 1 else 0, groups=groups, bias=bias)

    def forward(self, tensor):
        if self.stride[0] > 1:
            tensor = same(tensor, self.kernel_size[0], self.stride[0])
        return super().forward(tensor)


class Block(nn.Module):
    "An inverted bottleneck: expanded, filtered channel by channel, projected, and added to the input if it has the same shape."

    def __init__(self, channels, widening, filters, size, stride, skipped=0.0):
        super().__init__()
        inside = widening * channels
        self.expand = Convolution(channels, inside) if widening > 1 else None
        self.depthwise = Convolution(inside, inside, size, stride, inside)
        self.project = Convolution(inside, filters)
        self.adds, self.skipped = stride == 1 and channels == filters, skipped

    def forward(self, tensor):
        "The result, and the two activations inside (the first is None in a block without expansion)."
        inside = F.relu6(self.expand(tensor)) if self.expand else None
        deep = F.relu6(self.depthwise(tensor if inside is None else inside))
        out = self.project(deep)
        if self.adds and self.training and self.skipped:
            out = out * (torch.rand(len(out), 1, 1, 1, device=out.device) >= self.skipped).to(out.dtype) / (1 - self.skipped)
        return (tensor + out if self.adds else out), inside, deep


def scaled_channels(count, width):
    "The nearest multiple of 8, and never less than nine tenths of the product."
    scaled = max(8, int(count * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * count * width else scaled


def spread(tensor):
    "Each channel's mean over the poster, and half its mean absolute deviation from it."
    tensor = tensor.float()
    mean = tensor.mean((2, 3), keepdim=True)
    return [mean.flatten(1), F.relu(tensor - mean).mean((2, 3))]


class Lite(nn.Module):
    "EfficientNet-Lite, its batch normalisation folded: bytes -> features of the last layer, and of the activations in `levels`."

    def __init__(self, name="lite0", levels=(), skipped=0.0):
        super().__init__()
        depth, width = SCALES[name]
        self.name, self.levels, self.frozen = name, tuple(levels), 0
        channels = 32
        self.stem = Convolution(3, channels, 3, 2)
        plan = []
        for stage, (blocks, widening, filters, size, stride) in enumerate(STAGES):
            for number in range(blocks if stage in (0, 6) else math.ceil(blocks * depth)):
                plan.append((widening, scaled_channels(filters, width), size, 1 if number else stride))
        self.blocks, self.width_of = nn.ModuleList(), {}
        for number, (widening, filters, size, stride) in enumerate(plan):
            self.blocks.append(Block(channels, widening, filters, size, stride, skipped * number / len(plan)))
            self.width_of |= {f"block{number}_expand": widening * channels, f"block{number}_depthwise": widening * channels}
            channels = filters
        self.top = Convolution(channels, 1280)
        self.features = 1280 + sum(2 * self.width_of[level] for level in self.levels)

    def parts(self):
        "The layers with weights, first to last."
        convolutions = [self.stem]
        for block in self.blocks:
            convolutions += [part for part in (block.expand, block.depthwise, block.project) if part is not None]
        return convolutions + [self.top]

    def lower(self, images):
        "Images (0 to 255) after the frozen blocks."
        tensor = F.relu6(self.stem(images / 128 - 127 / 128))
        for block in self.blocks[:self.frozen]:
            tensor = block(tensor)[0]
        return tensor

    def upper(self, tensor):
        "The features, from what `lower` returns."
        found = {}
        for number, block in enumerate(self.blocks[self.frozen:], self.frozen):
            tensor, *inside = block(tensor)
            for kind, activation in zip(("expand", "depthwise"), inside):
                if f"block{number}_{kind}" in self.levels:
                    found[f"block{number}_{kind}"] = spread(activation)
        features = [feature for level in self.levels for feature in found[level]]
        return torch.cat([*features, F.relu6(self.top(tensor)).float().mean((2, 3))], 1)

    def forward(self, images):
        with torch.no_grad() if self.frozen else torch.enable_grad():
            tensor = self.lower(images)
        return self.upper(tensor)


class Pretrained(nn.Module):
    "A backbone, its features standardised, and one layer for the genres and the auxiliary targets."

    def __init__(self, backbone, outputs, dropout=0.4):
        super().__init__()
        self.backbone, self.dropout = backbone, dropout
        self.register_buffer("mean", torch.zeros(backbone.features))
        self.register_buffer("variance", torch.ones(backbone.features))
        self.genres = nn.Linear(backbone.features, outputs)

    def forward(self, images):
        "Logits."
        features = (self.backbone(images) - self.mean) * torch.rsqrt(self.variance + 1e-7)
        with torch.autocast(features.device.type, enabled=False):
            return self.genres(F.dropout(features, self.dropout, self.training))


class Normalised(nn.Module):
    "A convolution without bias, and batch normalisation."

    def __init__(self, channels, filters, size=3, stride=1):
        super().__init__()
        self.convolution = Convolution(channels, filters, size, stride, bias=False)
        self.normalisation = nn.BatchNorm2d(filters, eps=1e-3)
        nn.init.kaiming_normal_(self.convolution.weight)

    def forward(self, tensor):
        return self.normalisation(self.convolution(tensor))


class Residual(nn.Module):
    "A residual block: two convolutions with squeeze-and-excitation, added to the input, whose size and channels are made to fit."

    def __init__(self, channels, filters, stride=1, skipped=0.0):
        super().__init__()
        small = max(8, filters // 8)
        self.first, self.second = Normalised(channels, filters, 3, stride), Normalised(filters, filters)
        self.squeeze, self.excite = Convolution(filters, small), Convolution(small, filters)
        self.fit = Normalised(channels, filters, 1) if channels != filters else None
        self.stride, self.skipped = stride, skipped

    def forward(self, tensor):
        change = self.second(F.relu(self.first(tensor)))
        factor = F.relu(self.squeeze(change.mean((2, 3), keepdim=True)))
        change = change * torch.sigmoid(self.excite(factor))
        if self.training and self.skipped:
            change = change * (torch.rand(len(change), 1, 1, 1, device=change.device) >= self.skipped).to(change.dtype) / (1 - self.skipped)
        if self.stride > 1:
            tensor = F.avg_pool2d(tensor, self.stride, ceil_mode=True, count_include_pad=False)
        return F.relu((self.fit(tensor) if self.fit else tensor) + change)


class Compact(nn.Module):
    "The network `compact`: bytes -> logits."

    def __init__(self, outputs, prior=None, plan=((64, 2, 0.03), (128, 2, 0.06), (160, 2, 0.1)), stem=32, dropout=0.3):
        super().__init__()
        self.stem, self.blocks, channels, lower = Normalised(3, stem, 4, 4), nn.ModuleList(), stem, []
        for filters, stride, skipped in plan:
            lower.append(channels if stride > 1 else 0)
            self.blocks.append(Residual(channels, filters, stride, skipped))
            channels = filters
        self.taps = [bool(width) for width in lower]
        self.lower, self.dropout = nn.BatchNorm1d(2 * sum(lower), eps=1e-3), dropout
        self.genres = nn.Linear(2 * sum(lower) + 2 * channels, outputs)
        nn.init.normal_(self.genres.weight, std=0.01)
        if prior is not None:
            with torch.no_grad():
                self.genres.bias.copy_(torch.logit(torch.as_tensor(prior).clamp(0.001, 0.999)))

    def forward(self, images):
        "Logits."
        tensor, lower = F.relu(self.stem(images / 127.5 - 1)), []
        for tapped, block in zip(self.taps, self.blocks):
            lower += spread(tensor) if tapped else []
            tensor = block(tensor)
        pooled = [self.lower(torch.cat(lower, 1)), tensor.float().mean((2, 3)), tensor.float().amax((2, 3))]
        with torch.autocast(images.device.type, enabled=False):
            return self.genres(F.dropout(torch.cat(pooled, 1).float(), self.dropout, self.training))


def load_backbone(name, path, levels=(), skipped=0.0):
    "The backbone with the weights of its package, each batch normalisation folded into the convolution before it."
    tensors, network = torch.load(path, map_location="cpu", weights_only=True), Lite(name, levels, skipped)
    named = {"_conv_stem _bn0": network.stem, "_conv_head _bn1": network.top}
    for number, block in enumerate(network.blocks):
        parts = [("expand", block.expand)] * (block.expand is not None) + [("depthwise", block.depthwise), ("project", block.project)]
        order = ("expand", "depthwise", "project")
        named |= {f"_blocks.{number}._{kind}_conv _blocks.{number}._bn{order.index(kind)}": part for kind, part in parts}
    for names, part in named.items():
        convolution, normalisation = names.split()
        of = lambda what: tensors[f"{normalisation}.{what}"].float()
        factor = of("weight") / torch.sqrt(of("running_var") + 1e-3)
        with torch.no_grad():
            part.weight.copy_(tensors[f"{convolution}.weight"].float() * factor[:, None, None, None])
            part.bias.copy_(of("bias") - of("running_mean") * factor)
    return network
