"""Answers collected elsewhere, audited without torch and without asking anybody: step one, the files.

A picture service files photographs into ten groups. Its owner was given a pool of pictures and sent back one group number
each; the auditor embeds the same pool with every encoder that the service may be built on. Here both are made on the spot:
patches of scikit-learn's photographs, six classic descriptors as encoders, and k-means on one of them as the service.

Run:   python examples/recorded_answers.py                        writes examples/recorded/
       dosimeter audit examples/recorded_audit.yaml --out recorded-report
Out:   'scales' is named, at a family-wise error of 5 %; exit code 1.
Needs: nothing beyond Dosimeter itself
"""

from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

import dosimeter
from dosimeter.attacks.encoder_inference.objectives import random_starts

FOLDER = Path(__file__).parent / "recorded"
POOL, OBJECTIVES, HIDDEN = 1000, 20, "scales"


def grey(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=3) / 255


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)


def hue(images: np.ndarray) -> np.ndarray:
    colours = images.mean(axis=(1, 2))
    return unit(colours - colours.mean(axis=1, keepdims=True))


def brightness(images: np.ndarray) -> np.ndarray:
    return np.quantile(grey(images).reshape(len(images), -1), [0.1, 0.5, 0.9], axis=1).T


def layout(images: np.ndarray) -> np.ndarray:
    tiles = grey(images).reshape(len(images), 4, 8, 4, 8).mean(axis=(2, 4)).reshape(len(images), -1)
    return unit(tiles - tiles.mean(axis=1, keepdims=True))


def edges(images: np.ndarray) -> np.ndarray:
    down, right = np.gradient(grey(images), axis=(1, 2))
    bins = (np.arctan2(down, right) % np.pi / np.pi * 6).astype(int).clip(0, 5)
    length = np.hypot(down, right)
    return unit(np.stack([(length * (bins == number)).sum(axis=(1, 2)) for number in range(6)], axis=1))


def scales(images: np.ndarray) -> np.ndarray:
    g = grey(images)
    steps = (1, 2, 4, 8, 16)
    return unit(np.stack([np.abs(g[:, k:] - g[:, :-k]).mean(axis=(1, 2)) for k in steps], axis=1))


def symmetry(images: np.ndarray) -> np.ndarray:
    g = grey(images) - grey(images).mean(axis=(1, 2), keepdims=True)
    g = g / np.sqrt((g**2).sum(axis=(1, 2), keepdims=True) + 1e-9)
    turned = (g[:, ::-1], g[:, :, ::-1], g.transpose(0, 2, 1), g[:, ::-1].transpose(0, 2, 1))
    return np.stack([(g * other).sum(axis=(1, 2)) for other in turned], axis=1)


def main() -> None:
    pool = dosimeter.load("photographs", n=POOL, size=32, seed=0).inputs
    # The attack also asks noise, to learn what the service says to nothing: with the seed of the spec it is known before.
    pictures = np.concatenate([pool, random_starts("image", 20, seed=0, size=32)])
    encoders = (hue, brightness, layout, edges, scales, symmetry)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    np.savez_compressed(FOLDER / "pictures.npz", images=pictures)
    np.savez_compressed(FOLDER / "objectives.npz", images=pool[:OBJECTIVES])
    for encoder in encoders:
        embeddings = StandardScaler().fit_transform(encoder(pictures))
        np.save(FOLDER / f"{encoder.__name__}.npy", embeddings)
        if encoder.__name__ == HIDDEN:
            np.save(FOLDER / "answers.npy", KMeans(10, n_init=3, random_state=0).fit_predict(embeddings))
    print(f"wrote {len(pictures)} pictures, their answers and {len(encoders)} sets of embeddings to {FOLDER}")


if __name__ == "__main__":
    main()
