"""Percentiles round any system's projection: of what will happen, and of true talent apart.

Three things are drawn for a player, hundreds of times. How much he plays: the playing time of somebody like him in an
earlier season, found by a forest of trees (Meinshausen, Quantile Regression Forests, JMLR 7, 2006), with the games,
starts and saves that went with it. His talent: log-odds round the projected ones, with a spread learned from what the
same system got wrong in earlier seasons beyond chance. Chance: binomial counts down the tree of a plate
appearance's outcomes, so that rates agree with each other; clumped Poisson counts for what team mates have a hand in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, logit

from fullcount.projection.boosted import base, examples, facts, kept, own_lines
from fullcount.projection.marcel import known_counts
from fullcount.projection.parts import CHANCES, PARTS, Line, Part, arrays, summed, whole
from fullcount.projection.system import (
    COUNTS,
    EXPOSURE,
    RATES,
    ROLES,
    League,
    Projection,
    RefusalError,
    Role,
    System,
    rates,
    target_season,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = tuple(range(10, 100, 10))
#: True-talent percentiles of rates: `{rate}_tt10` .. `{rate}_tt90`.
TALENT = re.compile(r"^(?P<stat>.+)_tt(?P<level>[1-9][0-9])$")
#: Rates' percentiles are those of a season of so many PA or IP and more, on which published tables judge them.
LEAST: dict[Role, float] = {"hitters": 200.0, "pitchers": 50.0}


#: What comes with another man's playing time.
CARRIED: dict[Role, tuple[str, ...]] = {"hitters": (), "pitchers": ("G", "GS", "SV", "HLD")}
#: Prior of a part's constants: what a season's playing time moves, level, spread (log sd of talent), its slope on
#: unreliability, on the system's own sd, and clumping (log of variance over the Poisson's, less 1). Mean, sd.
_PRIOR = {
    "level": (0.0, 0.3), "played": (0.0, 0.3), "spread": (np.log(0.2), 1.0), "unreliable": (0.0, 1.0),
    "own": (0.0, 1.0), "clumped": (np.log(0.2), 1.5),
}  # fmt: skip
_LEAVES = 255
_FOREST = {
    "boosting": "rf", "objective": "l2", "num_leaves": _LEAVES, "min_data_in_leaf": 10, "bagging_fraction": 0.6,
    "bagging_freq": 1, "feature_fraction_bynode": 0.5, "max_bin": 63, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbose": -1,
}  # fmt: skip
TREES = 100
#: Draws of each earlier season by which widths are set.
WIDTH_DRAWS = 200
#: Longer seasons than this are 1: whose playing time says nothing of a whole season's.
_SHORT = 1.2


@dataclass(frozen=True, eq=False)
class Bands:
    """`system` with percentiles: `{count}_p10` .. `_p90`, the same of rates, and `{rate}_tt10` .. of true talent.

    Counts are those of the season, 0 for who does not play; rates those of a season of LEAST PA or IP and more.
    Learned from the last `seasons` seasons as the system saw them on the same day of the year; for those it refuses
    as the system within it did, or Marcel. A column `{stat}_sd` of the system, sd of a rate's log-odds, is heard if
    most have one.
    Projections themselves stay the system's. Drawn `draws` times a player, seeded by season and player.
    """

    system: System
    seasons: int = 8
    draws: int = 500

    @property
    def name(self) -> str:
        """The system's, with `+bands`."""
        return f"{self.system.name}+bands"

    def project(self, as_of: date, league: League) -> Projection:
        """The system's projection with percentiles. FullcountError where no earlier season can be learned from."""
        said, season = self.system.project(as_of, league), target_season(as_of)
        tables = {}
        for role in ROLES:
            table = said.role(role)
            if not table.is_empty():
                learned = self.learned(role, as_of, league)
                asked = described(league, table, role, season)
                table = pl.concat([table, percentiles(learned, asked, self.draws)], how="horizontal")
            tables[role] = table
        return Projection.of(season, tables["hitters"], tables["pitchers"])

    def learned(self, role: Role, as_of: date, league: League) -> Learned:
        """What seasons before `as_of` teach."""
        return kept(_learned, league, self, role, as_of)


# -------------------------------------------------------------------------------------------------------- what is known


def described(league: League, table: pl.DataFrame, role: Role, season: int) -> pl.DataFrame:
    """A projection's `table` as the draws need it, a row a player in its order.

    The counts of PARTS (a pitcher's hits in play as BIP, his batters faced made up where unknown), `unreliable` (1 less
    Marcel's reliability), `expected` chances by Marcel, and as `f:` columns what playing time depends on.
    """
    n = EXPOSURE[role]
    known = facts(league, role, season).rename({n: "usual"})
    lags = [f"{c}:{k}" for c in (("n", "G") if role == "hitters" else ("n", "G", "GS", "SV", "GF")) for k in (1, 2, 3)]
    told = [c for c in ("age", "career", "debut", "usual", *lags) if c in known.columns]
    quality = ("wOBA", "K%", "SB%") if role == "hitters" else ("ERA", "K-BB%", "BB%")
    spread = [c for c in table.columns if c.endswith("_sd")]
    line = rates(whole(table, role), role).with_columns(
        pl.col("plays").fill_null(1.0) if "plays" in table.columns else pl.lit(1.0).alias("plays")
    )
    line = line.join(known.select("player", "reliability", *told), on="player", how="left", maintain_order="left",
                     suffix=":known")  # fmt: skip
    own = "reliability:known" if "reliability" in table.columns else "reliability"
    per = [(pl.col(c) / pl.col(n)).alias(f"f:{c}") for c in CARRIED[role]]
    usual = pl.col("usual").fill_null(pl.col("usual").min()).fill_null(LEAST[role])
    return line.select(
        "player",
        pl.lit(season).alias("season"),
        *(c for c in line.columns if c in _columns(role)),
        (1 - pl.col(own).fill_null(0.0)).alias("unreliable"),
        (usual * (pl.col(CHANCES[role]) / pl.col(n)).fill_nan(None).fill_null(1.0)).alias("expected"),
        *(pl.col(c).cast(pl.Float64).alias(f"f:{c}") for c in (n, "plays", *quality, *told)),
        *per,
        *spread,
    )


def _columns(role: Role) -> list[str]:
    """Counts that are drawn or divided by."""
    return [*dict.fromkeys([CHANCES[role], EXPOSURE[role], *(p.stat for p in PARTS[role]), *CARRIED[role]])]


def _past(league: League, bands: Bands, role: Role, as_of: date) -> pl.DataFrame:
    """`described` of earlier seasons beside what happened (`y:`; 0 who did not play), `season` and its `length`."""
    season = target_season(as_of)
    known = league.before(as_of)
    length = examples(league, role, season - bands.seasons, season).select("season", "length").unique()
    lines = own_lines(known, role)
    if role == "pitchers":
        lines = lines.with_columns(IP=pl.col("outs") / 3, TBF=pl.col("BF"))
    lines = whole(lines, role)
    lines = lines.filter(pl.col("season").is_in(length["season"].to_list()))
    names = known_counts(lines, [c for c in _columns(role) if c in lines.columns])
    parts = []
    for earlier, longer in sorted(length.iter_rows()):
        happened = lines.filter(pl.col("season") == earlier)
        happened = happened.select("player", *(pl.col(c).cast(pl.Float64).alias(f"y:{c}") for c in names))
        asked = kept(_asked, league, bands, _years_before(as_of, season - earlier)).role(role)
        table = described(league, asked, role, earlier).join(happened, on="player", how="left", maintain_order="left")
        table = table.with_columns(pl.col("^y:.*$").fill_null(0.0), length=pl.lit(longer))
        parts.append(table)
    return pl.concat(parts, how="diagonal_relaxed")


def _asked(league: League, bands: Bands, as_of: date) -> Projection:
    """The system's projection, or where it refuses that of the system within it, in the end Marcel's."""
    system: System | None = bands.system
    while system is not None:
        try:
            return system.project(as_of, league)
        except RefusalError:
            system = getattr(system, "system", None)
    return base(league, target_season(as_of))


def _years_before(day: date, years: int) -> date:
    return day.replace(year=day.year - years, day=min(day.day, 28) if day.month == 2 else day.day)


# ------------------------------------------------------------------------------------------------------------- learning


class Spread(NamedTuple):
    """What is learned of a part: talent is Normal(projected + level + played * more, deviation) on its scale.

    The scale is that of log-odds, of logarithms for a Poisson part; of `more` see `_more`. The logarithm of the
    deviation is spread + unreliable * (unreliability - 1/2) + own * (log of the system's own sd, less its mean).
    """

    level: float
    played: float
    spread: float
    unreliable: float
    own: float
    clumped: float  # log of a Poisson part's variance over the mean, less 1
    mean: float  # the pool's rate: no projected one is taken for less than a twentieth of it
    own_mean: float  # of the logarithm of the system's own sd

    def centre(self, part: Part, table: pl.DataFrame) -> Floats:
        """The projected rate on the part's scale [rows]; NaN where the system does not say."""
        line = arrays(table)
        chances = part.chances(line)
        rate = np.divide(part.counted(line), chances, out=np.full(len(chances), np.nan), where=chances > 0)
        rate = np.clip(rate, self.mean / 20, 0.999 if part.kind == "binomial" else None)
        return np.asarray(logit(rate) if part.kind == "binomial" else np.log(rate))

    def deviation(self, unreliable: Floats, own: Floats) -> Floats:
        """sd of talent on the part's scale [rows]; of `own` see `_own_sd`."""
        away = np.nan_to_num(own - self.own_mean)  # who is given none has the usual
        return np.asarray(np.exp(np.minimum(self.spread + self.unreliable * (unreliable - 0.5) + self.own * away, 1.0)))


class Forest(NamedTuple):
    """Trees that say whose season may be a player's, too."""

    trees: list[lightgbm.Booster]
    rows: Ints  # [trees, rows]: of each tree its rows, leaf by leaf
    first: Ints  # [trees, leaves + 1]: where each leaf's rows begin
    carried: Floats  # [rows, 1 + CARRIED]: chances, and what comes with them


@dataclass(frozen=True, eq=False)
class Learned:
    """What earlier seasons teach about a role."""

    role: Role
    parts: tuple[Part, ...]
    spreads: tuple[Spread, ...]
    mixing: Floats  # [parts, parts]: independent normals to talents'
    playing: Forest
    lasting: Forest  # of those with LEAST and more
    features: list[str]
    outs: float  # variance of a pitcher's outs per batter that does not reach base
    width: Mapping[str, float]  # of rates, see `_widths`


def _learned(league: League, bands: Bands, role: Role, as_of: date) -> Learned:
    past = _past(league, bands, role, as_of)
    played = past.filter(pl.col(f"y:{EXPOSURE[role]}") >= LEAST[role] / 2)  # who hardly played is no guide to others
    more = _more((played[f"y:{CHANCES[role]}"] * played["length"]).to_numpy(), played["expected"].to_numpy())
    parts = tuple(p for p in PARTS[role] if f"y:{p.stat}" in past.columns)
    fitted = [_fit(p, played, more) for p in parts]
    whole = past.filter(pl.col("length") < _SHORT)
    features = [c for c in past.columns if c.startswith("f:")]
    lasted = whole.filter(pl.col(f"y:{EXPOSURE[role]}") >= LEAST[role])
    if lasted.is_empty():
        raise RefusalError(
            f"{bands.name}: no {role} had {LEAST[role]:.0f} {EXPOSURE[role]} before {as_of} to learn from"
        )
    spreads, surprises, shown = zip(*fitted, strict=True)
    playing, lasting = (_forest(_levelled(t, whole, role), features, role) for t in (whole, lasted))
    outs = _outs(played) if role == "pitchers" else 0.0
    learned = Learned(role, parts, spreads, _mixing(surprises, shown), playing, lasting, features, outs, {})
    return replace(learned, width=_widths(learned, lasted))


def _levelled(table: pl.DataFrame, whole: pl.DataFrame, role: Role) -> pl.DataFrame:
    """Chances in units of the last whole season's: those who play most, starters above all, play less than they did."""
    y = pl.col(f"y:{CHANCES[role]}")
    level = whole.group_by("season").agg(level=y.top_k(100).sort().mean()).sort("season")
    table = table.join(level, on="season", maintain_order="left")
    return table.with_columns((y * level["level"][-1] / pl.col("level")).round())


def _widths(learned: Learned, lasted: pl.DataFrame) -> dict[str, float]:
    """Of each rate the factor by which its percentiles must lie further from the median to hold on `lasted`.

    What components with the right spread each leave over: tails longer than a normal's, correlations of chance.
    """
    _, drawn, _ = _drawn(learned, lasted, WIDTH_DRAWS, counts=False)
    happened = summed(arrays(lasted, "y:"), learned.role)
    actual = _rates({c: x[:, None] for c, x in happened.items()}, learned.role)
    widths = {}
    for c, x in drawn.items():
        low, middle, high = np.quantile(x, [0.1, 0.5, 0.9], axis=1)
        away, y = np.where(actual[c][:, 0] > middle, high - middle, middle - low), actual[c][:, 0]
        far = np.abs(y - middle)[away > 0] / away[away > 0]
        far = far[np.isfinite(far)]
        widths[c] = float(np.quantile(far, 0.8) ** (len(far) / (len(far) + 200))) if len(far) else 1.0
    return widths


def _own_sd(part: Part, table: pl.DataFrame) -> Floats:
    """Logarithm of the system's own sd of the part's rate [rows]; NaN where it gives none."""
    column = f"{part.stat}_sd"
    if column not in table.columns:
        return np.full(table.height, np.nan)
    return np.asarray(table[column].cast(pl.Float64).log().fill_null(float("nan")).to_numpy())


def _more(chances: Floats, expected: Floats | float) -> Floats:
    """Logarithm of chances over those expected; a dozen games are little."""
    return np.asarray(np.log((chances + 50) / (expected + 50)))


def _fit(part: Part, played: pl.DataFrame, more: Floats) -> tuple[Spread, Floats, Floats]:
    """Maximum a posteriori of a beta-binomial, or negative binomial, likelihood of earlier seasons' counts.

    Returns:
        The constants, and of each row how far talent was from its mean, in sd and as far as the counts show it, and the
        share of it that they show; 0 where nothing.
    """
    happened = arrays(played, "y:")
    y, n = part.counted(happened).clip(min=0), part.chances(happened)
    mean = max(float(np.nansum(y) / max(np.nansum(n), 1.0)), 1e-5)
    own = _own_sd(part, played)
    heard = bool(len(own)) and bool(np.isfinite(own).mean() > 0.5)
    names = ["level", "played", "spread", "unreliable"] + ["own"] * heard + ["clumped"] * (part.kind == "poisson")
    prior = np.array([_PRIOR[c] for c in names])

    def spread(constants: Floats) -> Spread:
        given = {"own": 0.0, "clumped": -np.inf} | dict(zip(names, constants.tolist(), strict=True))
        return Spread(**given, mean=mean, own_mean=float(np.nanmean(own)) if heard else 0.0)

    start = spread(prior[:, 0])
    used = np.isfinite(start.centre(part, played)) & (n > 0) & np.isfinite(y)
    rows, y, n, moved = played.filter(pl.Series(used)), y[used], n[used], more[used]
    y = np.minimum(y, n) if part.kind == "binomial" else y
    centre, unreliable, own_used = start.centre(part, rows), rows["unreliable"].to_numpy(), own[used]

    def moments(s: Spread) -> tuple[Floats, Floats]:
        x = centre + s.level + s.played * moved
        return expit(x) if part.kind == "binomial" else np.exp(x), s.deviation(unreliable, own_used)

    def loss(constants: Floats) -> float:
        s = spread(constants)
        p, sd = moments(s)
        far = 0.5 * np.sum(((constants - prior[:, 0]) / prior[:, 1]) ** 2)
        if part.kind == "binomial":
            strength = 1 / (p * (1 - p) * sd**2)
            a, b = p * strength, (1 - p) * strength
            return float(far - np.sum(betaln(y + a, n - y + b) - betaln(a, b)))
        k = 1 / (np.expm1(sd**2) + np.exp(s.clumped) / (n * p))
        share = k / (k + n * p)
        return float(far - np.sum(gammaln(y + k) - gammaln(k) + k * np.log(share) + y * np.log1p(-share)))

    near = np.stack([prior[:, 0] - 4 * prior[:, 1], prior[:, 0] + 4 * prior[:, 1]], axis=1)
    best = spread(np.asarray(minimize(loss, prior[:, 0], method="L-BFGS-B", bounds=near).x)) if len(rows) else start
    p, sd = moments(best)
    steep = n * p * (1 - p) if part.kind == "binomial" else n * p
    noise = steep * (1 + np.exp(best.clumped))
    shown, surprise = np.zeros(len(used)), np.zeros(len(used))
    shown[used] = steep**2 * sd**2 / (noise + steep**2 * sd**2)
    surprise[used] = (y - n * p) * shown[used] / (steep * sd)
    return best, surprise, shown


def _mixing(surprises: Sequence[Floats], shown: Sequence[Floats]) -> Floats:
    """A root of the talents' correlations: chance does not correlate, so surprises correlate as talents do."""
    x, h = np.stack(surprises), np.stack(shown)
    found = np.clip((x @ x.T) / np.maximum(h @ h.T, 1e-9), -0.95, 0.95)
    np.fill_diagonal(found, 1.0)
    values, vectors = np.linalg.eigh(found)
    root = vectors * np.sqrt(values.clip(min=1e-6))
    return np.asarray(root / np.linalg.norm(root, axis=1, keepdims=True))


def _outs(played: pl.DataFrame) -> float:
    """Variance of outs, round the projected ones, a batter who did not reach: double plays, runners caught, errors."""
    said, happened = arrays(played), arrays(played, "y:")
    chances = _retired(happened)
    away = 3 * happened["IP"] - chances * 3 * said["IP"] / _retired(said)
    return float(np.nansum(away**2) / np.nansum(chances))


def _retired(line: Line) -> Floats:
    return np.asarray(line["TBF"] - line["BIP"] - line["HR"] - line["BB"] - line["HBP"])


def _forest(past: pl.DataFrame, features: list[str], role: Role) -> Forest:
    """Trees that split by chances, mixed at random with what comes with them."""
    carried = past.select(f"y:{c}" for c in (CHANCES[role], *CARRIED[role]) if f"y:{c}" in past.columns).to_numpy()
    spread = carried.std(axis=0)
    data = lightgbm.Dataset(_features(past, features), free_raw_data=False)
    rng = np.random.default_rng(0)
    trees, rows, first = [], [], []
    for seed in range(TREES // 10):
        weights = np.r_[1.0, 0.5 * rng.exponential(size=carried.shape[1] - 1)]
        data.set_label(carried @ (weights / np.where(spread > 0, spread, 1.0)))
        tree = lightgbm.train(_FOREST | {"seed": seed}, data, 10)
        for leaves in _leaves(tree, _features(past, features)):
            rows.append(np.argsort(leaves, kind="stable"))
            first.append(np.r_[0, np.cumsum(np.bincount(leaves, minlength=_LEAVES))])
        trees.append(tree)
    return Forest(trees, np.stack(rows), np.stack(first), carried)


def _features(table: pl.DataFrame, names: list[str]) -> Floats:
    return table.select(pl.col(names).fill_null(float("nan"))).to_numpy()


def _leaves(tree: lightgbm.Booster, x: Floats) -> Ints:
    """[trees, rows] number of the leaf."""
    return np.asarray(tree.predict(x, pred_leaf=True), dtype=np.int64).reshape(len(x), -1).T


# -------------------------------------------------------------------------------------------------------------- drawing


def percentiles(learned: Learned, asked: pl.DataFrame, draws: int) -> pl.DataFrame:
    """Percentile columns of the players `asked` (see `described`), in their order."""
    counts, lasting, talent = _drawn(learned, asked, draws)
    columns = _deciles({c: x for c, x in counts.items() if c in COUNTS[learned.role]}, "p", {})
    columns |= _deciles(lasting, "p", learned.width) | _deciles(talent, "tt", learned.width)
    return pl.DataFrame(columns).fill_nan(None)


def _drawn(
    learned: Learned, asked: pl.DataFrame, draws: int, counts: bool = True
) -> tuple[dict[str, Floats], dict[str, Floats], dict[str, Floats]]:
    """Draws [m, draws] of counts, of rates of who lasts, and of talent's rates; the last alone without `counts`."""
    role, m = learned.role, asked.height
    whole: dict[str, Floats] = {}
    lasting: dict[str, Floats] = {}
    talent: dict[str, Floats] = {}
    x = _features(asked, learned.features)
    play, last = (np.concatenate([_leaves(t, x) for t in f.trees]) for f in (learned.playing, learned.lasting))
    fitted, unreliable = list(zip(learned.parts, learned.spreads, strict=True)), asked["unreliable"].to_numpy()
    centre = np.stack([s.centre(p, asked) for p, s in fitted], axis=1)
    deviation = np.stack([s.deviation(unreliable, _own_sd(p, asked)) for p, s in fitted], axis=1)
    outs = 3 * asked["IP"].to_numpy() / _retired(arrays(asked)) if role == "pitchers" else np.zeros(m)
    for i, (season, player, expected) in enumerate(asked.select("season", "player", "expected").iter_rows()):
        rng = np.random.default_rng([season, ROLES.index(role), player])
        carried = _seasons_of_others(rng, learned.lasting, last[:, i], draws)
        chance = _talents(rng, learned, carried[:, 0], centre[i], deviation[i], expected)
        _store(lasting, _line(learned, carried, chance, outs[i], rng), i, m)
        if counts:
            _store(talent, _line(learned, np.full_like(carried, 600.0), chance, outs[i], None), i, m)
            carried = _seasons_of_others(rng, learned.playing, play[:, i], draws)
            chance = _talents(rng, learned, carried[:, 0], centre[i], deviation[i], expected)
            _store(whole, _line(learned, carried, chance, outs[i], rng), i, m)
    return whole, _rates(lasting, role), _rates(talent, role) if counts else {}


def _seasons_of_others(rng: np.random.Generator, forest: Forest, leaf: Ints, draws: int) -> Floats:
    """[draws, 1 + CARRIED]: a tree at random, and out of his leaf a row at random."""
    tree = rng.integers(len(leaf), size=draws)
    low, high = forest.first[tree, leaf[tree]], forest.first[tree, leaf[tree] + 1]
    return forest.carried[forest.rows[tree, low + (rng.random(draws) * (high - low)).astype(np.int64)]]


def _talents(
    rng: np.random.Generator, learned: Learned, chances: Floats, centre: Floats, deviation: Floats, expected: float
) -> Floats:
    """[parts, draws] chances of success. The mean over talents is the mean rate, on the whole."""
    z = learned.mixing @ rng.standard_normal((len(centre), len(chances)))
    more = _more(chances, expected)
    level, played = (np.array([getattr(s, c) for s in learned.spreads]) for c in ("level", "played"))
    binomial = np.array([p.kind == "binomial" for p in learned.parts])
    mean = (centre + level)[:, None] + played[:, None] * more
    bend = np.where(binomial[:, None], 1 - 2 * expit(mean), 1.0)
    x = mean + deviation[:, None] * z - 0.5 * deviation[:, None] ** 2 * bend
    return np.asarray(np.where(binomial[:, None], expit(x), np.exp(np.minimum(x, 3.0))))


def _line(
    learned: Learned, carried: Floats, talents: Floats, outs: float, rng: np.random.Generator | None
) -> dict[str, Floats]:
    """Counts [draws] of seasons with these talents; the expected ones without `rng`."""
    role = learned.role
    line = {CHANCES[role]: carried[:, 0]}
    line |= {c: carried[:, 1 + k] for k, c in enumerate(CARRIED[role][: carried.shape[1] - 1])}
    for part, spread, p in zip(learned.parts, learned.spreads, talents, strict=True):
        n = part.chances(line)
        count = n * p
        if rng is not None and np.isfinite(count).all():
            clump = np.exp(spread.clumped)
            chance = (
                rng.binomial(n.astype(np.int64), p)
                if part.kind == "binomial"
                else rng.poisson(rng.gamma(count / clump, clump))
            )
            count = chance.astype(np.float64)
        line[part.stat] = count + sum(line[c] for c in part.beyond)
    line = summed(line, role)
    if role == "pitchers":
        retired = _retired(line)
        made = retired * outs
        if rng is not None:
            made = np.rint(made + np.sqrt(learned.outs * retired) * rng.standard_normal(len(made)))
        line["IP"] = np.maximum(made, 0.0) / 3
    return line


def _store(out: dict[str, Floats], line: Line, row: int, rows: int) -> None:
    for c, x in line.items():
        if c not in out:
            out[c] = np.full((rows, len(x)), np.nan)
        out[c][row] = x


def _rates(lines: Mapping[str, Floats], role: Role) -> dict[str, Floats]:
    """Rates [m, draws] of lines [m, draws]."""
    shape = next(iter(lines.values())).shape
    table = pl.DataFrame(
        {c: lines[c].ravel() if c in lines else np.full(shape[0] * shape[1], np.nan) for c in COUNTS[role]}
    )
    found = rates(table, role)
    return {c: found[c].fill_null(float("nan")).to_numpy().reshape(shape) for c in RATES[role]}


def _deciles(drawn: Mapping[str, Floats], suffix: str, width: Mapping[str, float]) -> dict[str, Floats]:
    """`{stat}_{suffix}10` .. of draws [m, draws]: of each the least value with so many draws at or below it.

    `width`: by how much they lie further from the median.
    """
    columns: dict[str, Floats] = {}
    for c, x in drawn.items():
        ordered, known = np.sort(x, axis=1), np.isfinite(x).sum(axis=1)
        at = np.maximum(np.ceil(known[:, None] * np.array(LEVELS) / 100).astype(np.int64) - 1, 0)
        found = np.take_along_axis(ordered, at, axis=1)
        if c in width:
            middle = found[:, [len(LEVELS) // 2]]
            wider = middle + width[c] * (found - middle)
            found = wider if (x < 0).any() else np.maximum(wider, 0.0)
        columns |= {f"{c}_{suffix}{level}": found[:, k] for k, level in enumerate(LEVELS)}
    return columns
