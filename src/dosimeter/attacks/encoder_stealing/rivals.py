"""Other ways to a copy: the baselines, at as many updates as the attack has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from dosimeter.attacks.encoder_stealing.contrastive import buy_views, contrastive_steal
from dosimeter.attacks.encoder_stealing.losses import RawVectors
from dosimeter.attacks.encoder_stealing.purchase import Purchase
from dosimeter.attacks.encoder_stealing.training import Recipe, StolenEncoder
from dosimeter.attacks.encoder_stealing.views import ImageViews, TextViews, Views
from dosimeter.core.errors import InputError
from dosimeter.models.simclr import fit_simclr

if TYPE_CHECKING:
    from dosimeter.attacks.encoder_stealing.attack import Baseline
    from dosimeter.attacks.encoder_stealing.campaign import Campaign


def baseline_copy(campaign: Campaign, name: Baseline, purchase: Purchase) -> StolenEncoder:
    """The copy that baseline ``name`` makes of the same inputs.

    - ``no-augmentation``: lambda = 0. ``conventional``: mean squared error on the vectors as they are.
    - ``contrastive``: Cont-Steal; ``prototypes``: RDA. Both buy several views per input, images only.
    - ``from-scratch``: SimCLR on the surrogate inputs, without a query.

    Raises:
        InputError: a contrastive baseline against an encoder of texts.
    """
    recipe = campaign.attack.recipe
    if name in ("no-augmentation", "conventional"):
        plain = recipe.model_copy(update={"augmentation_weight": 0.0})
        goal = RawVectors(torch.from_numpy(purchase.vectors)) if name == "conventional" else None
        return campaign.copy_of(purchase, plain, goal=goal, label=name)
    network = campaign.network(purchase.vectors.shape[1])
    signature = (name, purchase.digest, recipe.model_dump_json(), campaign.attack.bought_views)
    flip = campaign.attack.flip
    if name == "from-scratch":
        return campaign.kept(
            network,
            signature,
            lambda seed: from_scratch(purchase, network, campaign.views, seed, recipe=recipe, flip=flip),
        )
    views = campaign.views
    if not isinstance(views, ImageViews):
        raise InputError(f"baseline {name} buys views of images; the target takes texts. Leave it out.")
    bought = buy_views(
        campaign.oracle,
        purchase.inputs,  # type: ignore[arg-type]
        ImageViews(views.size, crop=True, flip=flip),
        per_image=campaign.attack.bought_views,
        seed=campaign.context.seed,
    )
    return campaign.kept(
        network,
        signature,
        lambda seed: contrastive_steal(
            bought, network, views, recipe, seed=seed, prototypes=name == "prototypes"
        ),
    )


def from_scratch(
    purchase: Purchase, network: nn.Module, views: Views, seed: int, *, recipe: Recipe, flip: bool = True
) -> StolenEncoder:
    """SimCLR on the inputs that were bought, their vectors unused, with as many inputs passing as ``recipe`` would use."""
    rows = views.rows(purchase.inputs)
    copies = recipe.views if recipe.augmentation_weight else 0
    passes = recipe.total_steps(len(rows)) * min(recipe.batch_size, len(rows)) * (1 + copies)
    batch_size = min(128, len(rows))
    steps = max(1, math.ceil(passes / (2 * batch_size)))
    stronger: Views = views
    if isinstance(views, ImageViews):
        stronger = ImageViews(views.size, crop=True, flip=flip)
    elif isinstance(views, TextViews):
        stronger = TextViews(views.length, dropout=0.3, span=0.3)
    fit_simclr(
        network,
        rows,
        stronger.augmented,
        width=purchase.vectors.shape[1],
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        task="training: from scratch, without queries",
    )
    return StolenEncoder(network.eval(), views, queries=0, input_passes=2 * batch_size * steps)
