"""Planted talent: does each pre-training objective beat its trivial rival, and do its embeddings hold who is good?

On a simulated league true rates are known. As of 1 March of a judged season a player is the games of his window, seen
in two ways: the rates observed in them, and the mean of their frozen embeddings. The embedding's read-out is the
ridge of `probe`, fitted on what *other* players did in the seasons after their windows, before the judged ones: on
observed rates, as it would have to be in real life, where nobody knows the truth. Both are then correlated with the
true rates of the judged season.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fullcount.adaptation.performance import embed
from fullcount.adaptation.samples import Samples
from fullcount.batches import EVENT, Batch
from fullcount.config import PretrainConfig, WindowConfig
from fullcount.errors import FullcountError, told
from fullcount.evaluation.metrics import interval, pearson, resamples
from fullcount.evaluation.pa_grain import shrink
from fullcount.evaluation.pitch_grain import Ints, normalise, tally
from fullcount.evaluation.probe import TARGETS, Blank, Floats, ProbeConfig, draw, represent, ridge
from fullcount.fields import COLUMN, OUTCOMES, PLACE, Role
from fullcount.model.transformer import GamestateTransformer
from fullcount.objectives.base import Losses, Objective, hide, plate_appearance_outcomes
from fullcount.objectives.contrastive import Contrastive
from fullcount.objectives.identity import Identity
from fullcount.objectives.inning import Inning
from fullcount.objectives.masked_gamestate import MaskedGamestate
from fullcount.objectives.masked_plate_appearance import MaskedPlateAppearance
from fullcount.objectives.next_event import NextEvent
from fullcount.objectives.pitch_order import PitchOrder
from fullcount.objectives.registry import OBJECTIVES
from fullcount.objectives.replaced_event import ReplacedEvent
from fullcount.objectives.score import Score
from fullcount.priors import Priors
from fullcount.simulated.league import simulate
from fullcount.store import ROLES, Store
from fullcount.training.jobs import build_pretraining, load_objective, pretrain
from fullcount.windows import History, ranges

Labels = Literal["observed", "truth"]
FOLDS = 5
_COLUMNS = [OUTCOMES.index(o) for o in TARGETS.values()]


# ------------------------------------------------------------------------------------------------------------- talent


def planted(
    encoder: GamestateTransformer,
    store: Store,
    true_rates: pl.DataFrame,
    config: ProbeConfig,
    labels: Labels = "observed",
    progress: bool = True,
) -> pl.DataFrame:
    """How much of the true rates an encoder's embeddings recover, a row for each role and target; see `recovered`.

    The encoder reads no priors: only the pitches of the window speak.

    Args:
        true_rates: `SimulatedLeague.true_rates` of the league in the store.
        config: seasons, windows and exposure; `use_prior` and next games are not read.
        labels: what the read-out is fitted on: "observed" rates of other players, as in real life, or their true ones,
            which tells what is there to be read where players are too few to find it through the noise.

    Raises:
        FullcountError: a judged player has no true rate.
    """
    priors, parts = Priors(store, decay=0), []
    for role in ROLES:
        history = History(store, getattr(config, role).window(role))
        s = draw(store, history, priors, "season", config, config.seasons)
        known = np.unique(ranges(s.first, s.stop - s.first))
        vectors = embed(encoder, history, known, known + 1, Blank(), progress=progress)
        seen, truth = observed(priors, history, s), truths(s, true_rates)
        parts.append(recovered(s, represent(history, s, known, vectors), seen, truth, config, labels))
    return pl.concat(parts)


def observed(priors: Priors, history: History, s: Samples) -> Floats:
    """[m, 8] plate appearances by outcome (`fields.OUTCOMES`) in each sample's window; `priors` do not decay.

    Counts are by day: a window does not begin between the games of a double-header here.
    """
    since = history.days[s.first]
    counts = priors.counts(s.role, s.player, s.day) - priors.counts(s.role, s.player, since)
    named, exposure = counts[:, : len(OUTCOMES) - 1], counts[:, [Priors.COLUMNS.index("exposure")]]
    return np.concatenate([exposure - named.sum(axis=1, keepdims=True), named], axis=1)


def truths(s: Samples, true_rates: pl.DataFrame) -> Floats:
    """[m, targets] true rates of each sample's season."""
    keys = pl.DataFrame({"player": s.player, "season": s.season})
    own = true_rates.filter(role=s.role).with_columns(pl.col("player", "season").cast(pl.Int64))
    found = keys.join(own, on=["player", "season"], how="left", maintain_order="left").select(*TARGETS)
    if found.null_count().sum_horizontal().item():
        raise FullcountError(f"a {s.role} of the store has no true rate: give those of the same simulated league")
    return found.to_numpy()


def recovered(
    s: Samples,
    representation: Floats,
    seen: Floats,
    truth: Floats,
    config: ProbeConfig,
    labels: Labels = "observed",
) -> pl.DataFrame:
    """Rows of one role, given what was made of the windows [m, d] and what was seen in them (`observed`).

    Columns: role, target, n, pa (mean plate appearances of a window), r with the truth of the observed rate, of the
    same shrunken to the league's (`pa_grain.shrink`) and of the embedding's read-out, means over judged seasons; ratio
    of the last to the better of the others, with its 95 % interval (players resampled).
    """
    exposure = seen.sum(axis=1)
    judged = np.isin(s.season, config.judged)
    mix = seen.sum(axis=0) / seen.sum()
    rates = s.targets.counts.numpy().astype(np.float64)[:, _COLUMNS] / s.targets.exposure.numpy()[:, None]
    systems = {
        "observed": (seen / np.maximum(exposure, 1)[:, None])[:, _COLUMNS],
        "shrunken": shrink(seen, mix, s.role)[:, _COLUMNS],
        "embedding": _read_out(s, representation, truth if labels == "truth" else rates, judged, config),
    }
    players, owner = np.unique(s.player, return_inverse=True)
    weights = np.concatenate([np.ones((1, len(players))), resamples(len(players), config.draws, config.seed)])
    rows: list[dict[str, Any]] = []
    for i, target in enumerate(TARGETS):
        r = {
            name: np.mean(
                [pearson(x[t, i], truth[t, i], weights[:, owner[t]]) for t in (s.season == y for y in config.judged)],
                axis=0,
            )
            for name, x in systems.items()
        }
        rival = max("observed", "shrunken", key=lambda name: r[name][0])
        ratio = r["embedding"] / r[rival]
        figures = {f"r_{name}": float(x[0]) for name, x in r.items()}
        found = interval(float(ratio[0]), ratio[1:])
        n, pa = int(judged.sum()), float(exposure[judged].mean())
        rows.append(
            {"role": s.role, "target": target, "n": n, "pa": pa, **figures}
            | dict(zip(("ratio", "low", "high"), found, strict=True))
        )
    return pl.DataFrame(rows)


def _read_out(
    s: Samples, representation: Floats, wanted: Floats, judged: NDArray[np.bool_], config: ProbeConfig
) -> Floats:
    """[m, targets] what a ridge that has not met the player says of him in judged seasons (0 in others)."""
    w = s.targets.exposure.numpy().astype(np.float64)
    players, owner = np.unique(s.player, return_inverse=True)
    fold = np.random.default_rng(config.seed).permutation(len(players))[owner] % FOLDS
    said = np.zeros_like(wanted)
    for one in range(FOLDS):
        kept = judged | (fold != one)
        answer = ridge([representation[kept]], wanted[kept], w[kept], s.season[kept], config.fit)
        mine = judged & (fold == one)
        said[mine] = answer[mine[kept]]
    return said


# ------------------------------------------------------------------------------------------------------------- rivals

#: Nats summed over the targets of a batch, and of each target the group that the rival knows and the class (-1: none).
Asked = tuple[Tensor, Tensor, Tensor]
Ask = Callable[[Any, Batch], Asked]


def against_rival(objective: Objective, train: Iterable[Batch], held: Iterable[Batch]) -> pl.DataFrame:
    """What an objective is asked beside its trivial rival on the batches `held`: asked, loss and rival, nats a target.

    Call and outcome stand against the table of the count, as far as it is shown; a pitch's place against the table of
    how many pitches were shuffled (log n); a contrast against a guess among its candidates; replaced or real, inning,
    score and player against how common each is. Tables are fitted on the same questions asked of the batches `train`.
    """
    objective.eval()
    if isinstance(objective, Contrastive):
        with torch.no_grad():
            total = Losses()
            for batch in held:
                total.include(objective(batch))
        means = total.means()
        return pl.DataFrame({"asked": ["partner"], "loss": [means["contrastive"]], "rival": [means["chance"]]})
    fitted, judged = list(train), list(held)
    rows = []
    for what, ask in _ASK[type(objective)].items():
        with torch.no_grad():
            (_, group, wanted), (nats, its_group, its_wanted) = (_together(ask, objective, b) for b in (fitted, judged))
        groups, classes = (1 + int(max(a.max(), b.max())) for a, b in ((group, its_group), (wanted, its_wanted)))
        table = normalise(tally(group, groups, wanted, classes) + 0.5)
        rival = float(-np.log(table[its_group, its_wanted]).mean())
        rows.append({"asked": what, "loss": nats / len(its_wanted), "rival": rival})
    return pl.DataFrame(rows)


def _together(ask: Ask, objective: Objective, batches: list[Batch]) -> tuple[float, Ints, Ints]:
    """Sum of nats, groups [n] and classes [n] of the targets of all batches that have a class."""
    nats, groups, classes = zip(*(ask(objective, b) for b in batches), strict=True)
    group, wanted = torch.cat(groups).numpy(), torch.cat(classes).numpy()
    return float(sum(nats)), group[wanted >= 0], wanted[wanted >= 0]


def _column(batch: Batch, targets: Tensor, name: str) -> Tensor:
    """Class [n] of a field at the targets, -1 where it is missing."""
    return batch.categorical[targets][:, COLUMN[name]].long() - 1


def _count(batch: Batch, targets: Tensor) -> Tensor:
    return 3 * _column(batch, targets, "balls") + _column(batch, targets, "strikes")


def _shown_count(batch: Batch, targets: Tensor, hides: tuple[Role, ...]) -> Tensor:
    """The count at masked targets, 12 where an earlier target hides it."""
    return torch.where(hide(batch, targets, hides)[targets][:, PLACE["balls"]], 12, _count(batch, targets))


def _alone(loss: str, wanted: Callable[[Any, Batch], Tensor]) -> Ask:
    """A question about which the rival knows nothing but how common each class is."""

    def ask(objective: Objective, batch: Batch) -> Asked:
        classes = wanted(objective, batch)
        return objective(batch).sums[loss], torch.zeros_like(classes), classes

    return ask


def _masked(objective: MaskedGamestate, batch: Batch) -> Asked:
    targets = objective.mask(batch)
    return objective(batch).sums["call"], _shown_count(batch, targets, objective.hides), _column(batch, targets, "call")


def _masked_outcome(objective: MaskedPlateAppearance, batch: Batch) -> Asked:
    targets = objective.mask(batch)
    wanted = plate_appearance_outcomes(batch)[targets]
    return objective(batch).sums["outcome"], _shown_count(batch, targets, objective.hides), wanted


def _before_the_pitch(what: str) -> Ask:
    def ask(objective: NextEvent, batch: Batch) -> Asked:
        where = batch.kind == EVENT
        wanted = _column(batch, where, "call") if what == "call" else plate_appearance_outcomes(batch)[where]
        nats = F.nll_loss(objective.forecast(batch)[what], wanted, ignore_index=-1, reduction="sum")
        return nats, _count(batch, where), wanted

    return ask


def _place(objective: PitchOrder, batch: Batch) -> Asked:
    _, shuffled, place, count = objective.shuffle(batch)
    return objective(batch).sums["place"], count[shuffled], place[shuffled]


def _player(objective: Identity, batch: Batch) -> Asked:
    wanted = torch.full_like(batch.player, -1)
    for number, regulars in enumerate((objective.batters, objective.pitchers)):
        found = (regulars == batch.player.unsqueeze(1)) & (batch.role == number).unsqueeze(1)
        wanted = torch.where(found.any(dim=1), found.int().argmax(dim=1), wanted)
    sums = objective(batch).sums
    return sums["batter"] + sums["pitcher"], batch.role, wanted


_ASK: dict[type[Objective], dict[str, Ask]] = {
    MaskedGamestate: {"call": _masked},
    NextEvent: {"call": _before_the_pitch("call"), "outcome": _before_the_pitch("outcome")},
    ReplacedEvent: {"replaced": _alone("replaced", lambda o, b: (c := o.choose(b))[1][c[0]].long())},
    MaskedPlateAppearance: {"outcome": _masked_outcome},
    PitchOrder: {"place": _place},
    Inning: {"inning": _alone("inning", lambda o, b: _column(b, o.mask(b), "inning"))},
    Score: {"score": _alone("score", lambda o, b: o.finals(b)[o.cut(b)[1]])},
    Identity: {"player": _player},
}


# --------------------------------------------------------------------------------------------------------- the table

SEASONS, TEAMS, GAMES, FIRST = 5, 18, 36, 2001
#: Judged on the last season; everything is fitted on play before it.
JUDGED = ProbeConfig(
    fit=tuple(range(FIRST + 1, FIRST + SEASONS - 1)),
    judged=(FIRST + SEASONS - 1,),
    minimum_exposure=40,
    batter=WindowConfig(games=20),
    pitcher=WindowConfig(games=8),
)
CUTOFF = date(JUDGED.judged[0], 3, 1)


def configuration(kind: str, steps: int, seed: int = 0) -> PretrainConfig:
    """The same small encoder for every objective: width 64, two layers, no priors."""
    encoder = {"d_model": 64, "layers": 2, "heads": 2, "feedforward": 256, "use_prior": False, "matchup": False}
    given = {"objectives": kind, "encoder": encoder, "before": CUTOFF, "batch_tokens": 4096}
    return PretrainConfig.model_validate({**given, "train": {"steps": steps, "lr": 3e-3, "seed": seed}})


def main() -> None:
    """`python -m fullcount.evaluation.planted --out FOLDER`"""
    parser = argparse.ArgumentParser(description="Every objective on a simulated league: rival and planted talent.")
    parser.add_argument("--out", type=Path, required=True, help="gets the league's store and the runs")
    parser.add_argument("--steps", type=int, default=80, help="of pre-training, 4,096 tokens each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    if (given.out / "store").exists():
        raise FullcountError(f"{given.out}: has a store already; give a new folder")
    league = simulate(SEASONS, TEAMS, GAMES, given.seed, FIRST)
    store = Store.open_or_create(given.out / "store").add(league.tables, "simulated")
    pl.Config.set_tbl_rows(-1).set_tbl_cols(-1).set_tbl_width_chars(160).set_float_precision(3)
    pl.Config.set_tbl_hide_dataframe_shape(True)
    for kind in ("untrained", *OBJECTIVES):
        config = configuration("masked_gamestate" if kind == "untrained" else kind, given.steps, given.seed)
        objective, train, held = build_pretraining(config, store)
        print(f"{time.perf_counter() - began:.0f} s: {kind}")
        if kind != "untrained":
            pretrain(config, store, given.out / kind, progress=False)
            objective, _, _ = load_objective(given.out / kind, store)
            print(against_rival(objective, *([s.batch(100_000 + i) for i in range(20)] for s in (train, held))))
        print(planted(objective.encoder, store, league.true_rates, JUDGED, progress=False), flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    told(main)
