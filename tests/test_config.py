"""Configuration: a mistake is named with its path."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from fullcount.config import FinetuneConfig, PretrainConfig, load
from fullcount.errors import FullcountError

BEFORE = ["before=2003-01-01"]


def test_a_file_and_overrides(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("before = 2003-01-01\n[encoder]\nd_model = 32\nlayers = 3\n[train]\nsteps = 7\n")
    config = load(PretrainConfig, path, ["encoder.layers=1", "train.precision=32-true", "batch_tokens = 512"])
    assert (config.before, config.encoder.d_model, config.encoder.layers) == (date(2003, 1, 1), 32, 1)
    assert (config.train.steps, config.train.precision, config.batch_tokens) == (7, "32-true", 512)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["encoder.d_modle=32"], "encoder.d_modle"),
        (["train.learning_rate=1"], "train.learning_rate"),
        (["batter.appearances=sometimes"], "batter.appearances"),
        (["objectives=[{kind='masked_gamestate', rate=1.5}]"], "rate"),
        (["objectives=masked_gamestate+telepathy"], "objectives.1"),
        (["objectives=next_event", "encoder.use_prior=true"], "causal"),
        (["encoder.d_model=100"], "encoder"),
        (["objectives=5"], "objectives"),
        (["objectives=next_event", "encoder=5"], "encoder"),
        (["batch_tokens=3", "batch_tokens.x=1"], "batch_tokens is one value"),
        (["before"], "key=value"),
    ],
)
def test_a_mistake_is_named(overrides, named):
    with pytest.raises(FullcountError, match=named):
        load(PretrainConfig, None, [*BEFORE, *overrides])


def test_what_is_missing_is_named():
    with pytest.raises(FullcountError, match=r"before.*required"):
        load(PretrainConfig, None, [])


def test_the_file_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    with pytest.raises(FullcountError, match="no such file"):
        load(PretrainConfig, path, [])
    path.write_text("before = \n")
    with pytest.raises(FullcountError, match=r"broken\.toml: not TOML.*line 1"):
        load(PretrainConfig, path, [])
    path.write_text("befor = 2003-01-01\n")
    with pytest.raises(FullcountError, match=r"broken\.toml: before"):
        load(PretrainConfig, path, [])


def test_a_configuration_does_not_change():
    config = load(PretrainConfig, None, BEFORE)
    with pytest.raises(ValidationError):
        config.batch_tokens = 3


def test_unknown_methods_are_refused():
    with pytest.raises(FullcountError, match="adaptation"):
        load(FinetuneConfig, None, [*BEFORE, "role=batter", "adaptation=osmosis"])


def test_windows_follow_role_and_grain():
    def window(**given):
        return FinetuneConfig(before=date(2003, 1, 1), **given).history_window()

    assert window(role="pitcher", grain="game").games == 10
    assert window(role="batter", grain="season").games > 162
    assert window(role="batter", window={"games": 3}).games == 3
    assert load(PretrainConfig, None, [*BEFORE, "batter.games=2"]).batter.window("batter").games == 2


def test_a_group_given_in_part_keeps_the_rest_of_its_defaults():
    config = load(PretrainConfig, None, [*BEFORE, "train.steps=7", "batter.games=12"])
    default = load(PretrainConfig, None, BEFORE)
    assert config.train == default.train.model_copy(update={"steps": 7})
    assert config.batter == default.batter.model_copy(update={"games": 12})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["encoder.event_atention=true"], "encoder.event_atention: there is no such option"),
        (["objectives=adaptors"], "no 'adaptors'; choose one of 'contrastive'"),
        (["encoder.pooling=last"], "encoder: pooling: is of architecture"),
        (["batter.games=some"], "batter.games: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_said_in_words(options, sentence):
    with pytest.raises(FullcountError) as raised:
        load(PretrainConfig, None, ["before=2019-03-01", *options])
    assert sentence in str(raised.value)


def test_a_window_asked_for_in_another_unit_is_not_cut_by_the_defaults():
    given = ["before=2019-03-01", "batter.games=equal", "pitcher.plate_appearances=300"]
    config = load(PretrainConfig, None, given)
    assert (config.batter.games, config.batter.events) == ("equal", 4096)
    assert (config.pitcher.games, config.pitcher.events, config.pitcher.plate_appearances) == (None, 4096, 300)
    assert load(PretrainConfig, None, [*given, "batter.events=480"]).batter.events == 480
    assert load(PretrainConfig, None, ["before=2019-03-01", "batter.games=20"]).batter.events == 480
