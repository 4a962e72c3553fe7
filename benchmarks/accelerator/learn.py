"""Training on an accelerator: posters as bytes on the device, augmentation there, and networks trained on genres and by knowledge distillation."""
import json
import math
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import Compact, Pretrained, load_backbone

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = (268, 182)
LEVELS = {"lite0": tuple(f"block{n}_depthwise" for n in (8, 9, 10, 11)),
          "lite1": ("block11_expand", "block12_depthwise", "block13_depthwise", "block15_expand"),
          "lite2": ("block11_expand", "block12_depthwise", "block13_depthwise", "block15_expand")}


class Posters:
    "All posters with their labels, on the device."

    def __init__(self, folder):
        folder = Path(folder)
        index = np.load(folder / "index.npz", allow_pickle=False)
        self.ids, self.names = index["ids"], [str(name) for name in index["names"]]
        pieces = [np.load(folder / f"pixels{number}.npy") for number in range(int(index["pieces"]))]
        self.images = torch.cat([torch.from_numpy(piece).to(DEVICE) for piece in pieces])
        assert len(self.images) == len(self.ids), (len(self.images), len(self.ids))
        self.genres, self.known, self.more = (torch.from_numpy(index[name]).to(DEVICE).float() for name in ("genres", "known", "more"))
        self.train, self.validation = (torch.from_numpy(np.flatnonzero(index["part"] == part)).to(DEVICE) for part in ("train", "validation"))
        self.archive = torch.from_numpy(index["archive"]).to(DEVICE)
        self.prior = self.genres[self.train].mean(0)


# ---- scores

def scores(y_true, y_prob):
    "Log-loss, mean average precision and hits@3."
    truth, y_prob = (np.asarray(x.float().cpu(), "float64") for x in (y_true, y_prob))
    likely, precisions = np.clip(np.where(truth == 1, y_prob, 1 - y_prob), 1e-7, 1), []
    for genre in range(truth.shape[1]):
        order = np.argsort(-y_prob[:, genre], kind="stable")
        true = truth[order, genre]
        precisions.append((true * np.cumsum(true) / np.arange(1, len(true) + 1)).sum() / max(1, true.sum()))
    top = np.argsort(-y_prob, 1, kind="stable")[:, :3]
    return {"log_loss": float(-np.log(likely).mean()), "mean_average_precision": float(np.mean(precisions)),
            "hits_at_3": float(np.take_along_axis(truth, top, 1).sum(1).mean())}


# ---- augmentation

def hamming(old, new):
    "The matrix that resamples `old` pixels to `new` ones with Hamming's filter, as Pillow does."
    scale = old / new
    support = max(1.0, scale)
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    at = (torch.arange(old, dtype=torch.float64)[None] + 0.5 - centre[:, None]) / support
    weight = torch.where(at == 0, torch.ones_like(at), torch.sin(math.pi * at) / (math.pi * at) * (0.54 + 0.46 * torch.cos(math.pi * at)))
    weight = torch.where(at.abs() < 1, weight, torch.zeros_like(weight))
    return (weight / weight.sum(1, keepdim=True)).float().to(DEVICE)


def smaller(images, height, width):
    "uint8 posters x height x width x 3, resized with Hamming's filter, first across, then down."
    rounded = lambda x: x.round().clamp(0, 255)
    out = []
    for some in images.split(512):
        across = rounded(torch.einsum("nhwc,xw->nhxc", some.float(), hamming(images.shape[2], width)))
        out.append(rounded(torch.einsum("nhwc,yh->nywc", across, hamming(images.shape[1], height))).to(torch.uint8))
    return torch.cat(out)


def as_planes(images):
    "uint8 posters x height x width x 3 as floats, channels first (in name only: the memory stays as it is)."
    return images.permute(0, 3, 1, 2).float()


def moved(images, size, shift=0.08, zoom=0.12, crop=0.0, mirrored=0.5):
    "Planes of the posters, each shifted, scaled and mirrored (half of them) at random and resized; the edge is repeated."
    count, uniform = len(images), lambda low, high: torch.empty(len(images), device=images.device).uniform_(low, high)
    scale = uniform(1 - zoom - crop, 1 + zoom - crop / 2)
    down, across = scale, scale * uniform(1 - zoom / 2, 1 + zoom / 2)
    sign = torch.where(uniform(0, 1) < mirrored, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=images.device)
    room = shift + (1 - scale).clamp(min=0) / 2 * bool(crop)
    theta[:, 0, 0], theta[:, 0, 2] = sign * across, 2 * uniform(-1, 1) * room
    theta[:, 1, 1], theta[:, 1, 2] = down, 2 * uniform(-1, 1) * room
    grid = F.affine_grid(theta, (count, 3, *size), align_corners=False)
    return F.grid_sample(as_planes(images), grid, "bicubic", "border", align_corners=False).clamp(0, 255)


def patched(planes, share=0.5):
    "The posters, a share of them with random erasing: a rectangle of one colour over up to a sixth of them."
    count, _, height, width = planes.shape
    uniform = lambda low, high: torch.empty(count, 1, device=planes.device).uniform_(low, high)
    covered = torch.ones(count, 1, 1, dtype=torch.bool, device=planes.device) & (uniform(0, 1) < share)[:, :, None]
    masks = []
    for length in (height, width):
        side = uniform(0.15, 0.4) * length
        start = uniform(0, 1) * (length - side)
        place = torch.arange(length, device=planes.device)[None]
        masks.append((place >= start) & (place < start + side))
    mask = (covered & masks[0][:, :, None] & masks[1][:, None, :])[:, None]
    return torch.where(mask, torch.rand(count, 3, 1, 1, device=planes.device) * 255, planes)


def coloured(planes, most):
    "The posters with random brightness, contrast and saturation."
    if not most:
        return planes
    factor = lambda: torch.empty(len(planes), 1, 1, 1, device=planes.device).uniform_(1 - most, 1 + most)
    planes = planes * factor()
    mean = planes.mean((1, 2, 3), keepdim=True)
    planes = mean + (planes - mean) * factor()
    grey = planes.mean(1, keepdim=True)
    return (grey + (planes - grey) * factor()).clamp(0, 255)


def mixed(planes, genres, alpha=0.3):
    "Mixup: each poster blended with another one of the batch, and the genres of both in the same shares."
    if not alpha:
        return planes, genres
    share = torch.distributions.Beta(alpha, alpha).sample((len(planes),)).to(planes.device)
    share, other = torch.maximum(share, 1 - share), torch.randperm(len(planes), device=planes.device)
    wide = share[:, None, None, None]
    return planes * wide + planes[other] * (1 - wide), genres * share[:, None] + genres[other] * (1 - share[:, None])


# ---- prediction

def in_bf16():
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")


def in_size(images, size, batch):
    "Planes of the posters, resized, padded to `batch` by repeating the last one, channels last in memory."
    if len(images) < batch and DEVICE.type == "cuda":  # another number of posters would be another search for the fastest kernels
        images = torch.cat([images, images[-1:].expand(batch - len(images), *images.shape[1:])])
    planes = as_planes(images)
    if size and tuple(size) != tuple(planes.shape[2:]):
        grid = F.affine_grid(torch.tensor([[[1.0, 0, 0], [0, 1, 0]]], device=DEVICE).expand(len(planes), 2, 3), (len(planes), 3, *size), align_corners=False)
        planes = F.grid_sample(planes, grid, "bicubic", "border", align_corners=False).clamp(0, 255)
    return planes.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(network, images, size=None, mirrored=False, exact=False, batch=256):
    "Probabilities; with `mirrored`, by test-time augmentation: the mean over each poster and its mirror image."
    network.eval()
    found = []
    for some in images.split(batch):
        planes, y_prob = in_size(some, size, batch), 0
        for both in (planes, planes.flip(3))[:1 + mirrored]:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda" and not exact):
                y_prob = y_prob + torch.sigmoid(network(both.contiguous(memory_format=torch.channels_last)).float()) / (1 + mirrored)
        found.append(y_prob[:len(some)])
    return torch.cat(found)


@torch.no_grad()
def features_of(network, images, size=None, flipped=False, batch=256):
    "Features of the backbone."
    network.eval()
    found = []
    for some in images.split(batch):
        with in_bf16():
            found.append(network.backbone(in_size(some.flip(2) if flipped else some, size, batch))[:len(some)].half())
    return torch.cat(found)


# ---- linear probe: one logistic regression a genre on a frozen backbone

def fit_head(features, truth, penalty, steps=60):
    "Kernel and bias that minimise the loss with an L2 penalty."
    prior = truth.mean(0).clamp(0.001, 0.999)
    kernel = torch.zeros(truth.shape[1], features.shape[1], device=DEVICE, requires_grad=True)
    bias = torch.logit(prior).clone().requires_grad_()
    optimizer = torch.optim.LBFGS([kernel, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(F.linear(features, kernel, bias), truth, reduction="none").sum(1).mean() + penalty / 2 * kernel.square().sum()
        loss.backward()
        return loss
    optimizer.step(closure)
    return kernel.detach(), bias.detach()


def linear_probe(network, posters, rows, targets, size=None, penalties=(0.1,)):
    "Standardise the features of the frozen backbone and fit the last layer on them; return the scores on validation by penalty."
    features = torch.cat([features_of(network, posters.images[rows], size, flipped) for flipped in (False, True)]).float()
    network.mean.copy_(features.mean(0))
    network.variance.copy_((features.std(0, unbiased=False) + 1e-3).square())
    scale = torch.rsqrt(network.variance + 1e-7)
    features.sub_(network.mean).mul_(scale)
    held = (features_of(network, posters.images[posters.validation], size).float() - network.mean) * scale
    wanted, tried, best = torch.cat([targets[rows]] * 2), {}, None
    truth = posters.genres[posters.validation]
    for penalty in penalties:
        kernel, bias = fit_head(features, wanted, penalty)
        tried[penalty] = scores(truth, torch.sigmoid(F.linear(held, kernel, bias))[:, :truth.shape[1]])
        if best is None or tried[penalty]["mean_average_precision"] > tried[best]["mean_average_precision"]:
            best = penalty
            with torch.no_grad():
                network.genres.weight[:wanted.shape[1]] = kernel
                network.genres.bias[:wanted.shape[1]] = bias
    return tried


# ---- training

class Optimizer:
    "AdamW with a learning-rate factor for each parameter."

    def __init__(self, parameters, factors, decays, decay):
        self.parameters, self.factors, self.steps = parameters, factors, 0
        self.decays = [decay * yes for yes in decays]
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate):
        gradients = [p.grad for p in self.parameters]
        self.steps += 1
        torch._foreach_lerp_(self.means, gradients, 0.1)
        torch._foreach_mul_(self.squares, 0.999)
        torch._foreach_addcmul_(self.squares, gradients, gradients, 0.001)
        size = torch._foreach_sqrt(self.squares)
        torch._foreach_mul_(size, (1 - 0.999 ** self.steps) ** -0.5)
        torch._foreach_add_(size, 1e-7)
        change = torch._foreach_div(self.means, size)
        torch._foreach_mul_(change, [rate * factor / (1 - 0.9 ** self.steps) for factor in self.factors])
        torch._foreach_mul_(self.parameters, [1 - rate * decay for decay in self.decays])
        torch._foreach_sub_(self.parameters, change)
        for p in self.parameters:
            p.grad = None


def rate_at(step, steps, most):
    "The learning rate: linear warm-up during the first tenth, then cosine decay to 0."
    rise = max(1, steps // 10)
    if step < rise:
        return most * (0.01 + 0.99 * step / rise)
    return most * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


DEFAULTS = dict(
    kind="lite0", levels=None, size=None, frozen=5,  # lite0 | lite1 | lite2 | compact; the intermediate features; height and width; frozen blocks
    plan=None, stem=32, dropout=0.4, skipped=0.1,  # of compact: its blocks and first channels; of all: the dropout before the last layer, stochastic depth of the last block
    epochs=8, batch=128, rate=1e-3, fall=0.05, last=0.2, decay=0.02,  # the largest learning rate; the factors of the first and of the last layer; weight decay
    alpha=0.3, patches=0.5, shift=0.08, zoom=0.12, crop=0.0, colour=0.0,  # augmentation: mixup, random erasing, shift, scale, crop, colour
    again=0.0,  # shift and scale of the pictures of the transfer set; 0: half of them are mirrored
    aux=0.0, rarity=0.0,  # the weight of the auxiliary targets in the loss; how much more a rare genre weighs
    penalty=0.1, span=1.0, scored=2, seed=0, compiled=False)  # of the linear probe; the span of the moving average of the weights, in passes; passes between scores


def build(posters, weights, kind, levels=None, frozen=5, dropout=0.4, skipped=0.1, aux=0.0, plan=None, stem=32, **_):
    "The network with its initial weights."
    outputs = posters.genres.shape[1] + (posters.more.shape[1] if aux else 0)
    if kind == "compact":
        network = Compact(outputs, posters.prior.cpu(), stem=stem, dropout=dropout, **({"plan": plan} if plan else {}))
    else:
        backbone = load_backbone(kind, weights[kind], LEVELS[kind] if levels is None else levels, skipped)
        backbone.frozen = frozen
        network = Pretrained(backbone, outputs, dropout)
    return network.to(DEVICE).to(memory_format=torch.channels_last)


def learners(network, fall, last):
    "The trainable parameters, the learning-rate factor of each, and whether it has weight decay."
    if isinstance(network, Compact):
        parameters = list(network.parameters())
        return parameters, [1.0] * len(parameters), [p.dim() > 1 for p in parameters]
    parts, parameters, factors = network.backbone.parts(), [], []
    frozen = sum(1 + (block.expand is not None) + 1 for block in network.backbone.blocks[:network.backbone.frozen]) + (network.backbone.frozen > 0)
    for place, part in enumerate(parts):
        for p in part.parameters():
            p.requires_grad_(place >= frozen)
            if place >= frozen:
                parameters.append(p)
                factors.append(fall ** (1 - place / (len(parts) + 1)))
    head = list(network.genres.parameters())
    return parameters + head, factors + [last] * len(head), [p.dim() > 1 for p in parameters + head]


def weights_of(network):
    return [p for p in network.parameters()] + [b for b in network.buffers() if b.is_floating_point()]


def train(posters, weights, targets=None, rows=None, transfer_set=None, log=print, start=None, small=None, **chosen):
    "The network with the moving average of its weights, and its scores on validation by epoch."
    assert chosen.keys() <= DEFAULTS.keys() | {"name"}, chosen.keys() - DEFAULTS.keys()
    how = DEFAULTS | chosen
    torch.manual_seed(how["seed"])
    name, begun, genres = how.get("name", how["kind"]), time.time(), posters.genres.shape[1]
    rows = posters.train if rows is None else rows
    targets = posters.genres if targets is None else targets
    network, tiny = build(posters, weights, **how), how["kind"] == "compact"
    images = small if tiny else posters.images
    size = tuple(how["size"]) if how["size"] else tuple(images.shape[1:3])
    held = images[posters.validation]
    truth = posters.genres[posters.validation]
    if start is not None:
        network.load_state_dict(start, strict=True)
    elif not tiny:
        tried = linear_probe(network, posters, rows, targets, size, (how["penalty"],))
        log(name, "linear probe", round(time.time() - begun, 1), json.dumps(tried))
    parameters, factors, decays = learners(network, how["fall"], how["last"])
    optimizer = Optimizer(parameters, factors, decays, how["decay"])
    average = deepcopy(network)
    pairs = list(zip(weights_of(average), weights_of(network)))
    followed, own = map(list, zip(*pairs))
    importance = torch.ones(genres, device=DEVICE)
    if how["rarity"]:
        prior = posters.prior.clamp(0.001, 0.999)
        entropy = -(prior * prior.log() + (1 - prior) * (1 - prior).log())
        importance = entropy ** -how["rarity"]
        importance = importance / importance.mean()
    count = len(rows) if transfer_set is None else len(transfer_set["images"])
    epoch_steps = count // how["batch"]
    steps, fast, history = int(how["epochs"] * epoch_steps), network, []
    if how["compiled"]:
        fast = torch.compile(network, mode=None if how["compiled"] is True else how["compiled"])
    step, chance = 0, torch.Generator(device="cpu").manual_seed(how["seed"])
    watch = max(1, int(how["scored"] * epoch_steps))
    total, seen = torch.zeros((), device=DEVICE), 0
    while step < steps:
        order = torch.randperm(count, generator=chance).to(DEVICE)
        for place in range(epoch_steps):
            if step >= steps:
                break
            chosen_rows = order[place * how["batch"]:(place + 1) * how["batch"]]
            with torch.no_grad():
                if transfer_set is None:
                    chosen_rows = rows[chosen_rows]
                    planes = moved(images[chosen_rows], size, how["shift"], how["zoom"], how["crop"])
                    planes = coloured(planes, how["colour"])
                    planes = patched(planes, how["patches"]) if how["patches"] else planes
                    wanted = targets[chosen_rows]
                    if how["aux"]:
                        wanted = torch.cat([wanted, posters.more[chosen_rows], posters.known[chosen_rows]], 1)
                    planes, wanted = mixed(planes, wanted, how["alpha"])
                else:
                    views, wanted = transfer_set["images"][chosen_rows], transfer_set["targets"][chosen_rows].float()
                    if how["again"]:
                        planes = moved(views, size, how["again"], how["again"])
                    else:
                        flip = torch.rand(len(views), 1, 1, 1, device=DEVICE) < 0.5
                        planes = as_planes(torch.where(flip, views.flip(2), views))
                planes = planes.contiguous(memory_format=torch.channels_last)
            fast.train()
            with in_bf16():
                logits = fast(planes).float()
            loss = (F.binary_cross_entropy_with_logits(logits[:, :genres], wanted[:, :genres], reduction="none") * importance).mean()
            if how["aux"] and transfer_set is None:
                more = posters.more.shape[1]
                other = F.binary_cross_entropy_with_logits(logits[:, genres:], wanted[:, genres:genres + more], reduction="none")
                loss = loss + how["aux"] * (other * wanted[:, genres + more:]).mean()
            loss.backward()
            optimizer.step(rate_at(step, steps, how["rate"]))
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(followed, own, 1 / min(how["span"] * len(posters.train) / how["batch"], 1 + step / 4))
                total += loss.detach()
            seen += 1
            if step % watch == 0 or step == steps:
                found = scores(truth, predict(average, held, size, exact=DEVICE.type == "cpu" or step == steps)[:, :genres])
                history.append({"name": name, "step": step, "of": steps, "epoch": round(step / epoch_steps, 2), "loss": float(total / seen)} | found | {"seconds": round(time.time() - begun, 1)})
                log(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in history[-1].items()}))
                total, seen = total * 0, 0
    average.size = size
    return average, history


# ---- distillation

@torch.no_grad()
def make_transfer_set(posters, teachers, count, rows=None, share=0.0, targets=None, alpha=0.3, patches=0.3, shift=0.08, zoom=0.12, crop=0.15,
                      colour=0.0, batch=256, seed=0, log=print):
    "A transfer set: augmented posters with mixup, each with the teachers' mean probabilities for that picture, and a `share` of its own genres."
    torch.manual_seed(seed)
    begun, rows = time.time(), posters.train if rows is None else rows
    targets = posters.genres if targets is None else targets
    images = torch.empty(count, *posters.images.shape[1:], dtype=torch.uint8, device=DEVICE)
    wanted = torch.empty(count, posters.genres.shape[1], dtype=torch.float16, device=DEVICE)
    order = torch.cat([rows[torch.randperm(len(rows), device=DEVICE)] for _ in range(math.ceil(count / len(rows)))])[:count]
    for place in range(0, count, batch):
        some = order[place:place + batch]
        planes = coloured(moved(posters.images[some], posters.images.shape[1:3], shift, zoom, crop), colour)
        planes, genres = mixed(patched(planes, patches) if patches else planes, targets[some], alpha)
        bytes_ = planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        y_prob = torch.stack([predict(teacher, bytes_, teacher.size)[:, :genres.shape[1]] for teacher in teachers]).mean(0)
        images[place:place + batch], wanted[place:place + batch] = bytes_, (share * genres + (1 - share) * y_prob).half()
    log("transfer set", count, round(time.time() - begun, 1), "s")
    return {"images": images, "targets": wanted}


def soup(networks):
    "A model soup: the mean of the networks' weights."
    mean = deepcopy(networks[0])
    with torch.no_grad():
        for own, *others in zip(weights_of(mean), *(weights_of(network) for network in networks)):
            own.copy_(torch.stack(others).mean(0))
    return mean


def save(network, path):
    "Write the weights as arrays by their names."
    np.savez(path, **{key: value.detach().cpu().numpy() for key, value in network.state_dict().items()})
