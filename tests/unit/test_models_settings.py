from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UsageError
from harness.models.settings import Settings, read_settings, resolve_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_the_defaults_are_the_reference_network_s() -> None:
    settings = resolve_settings({})
    assert (settings.network, settings.data) == ("cnn", "digits")
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (5, 64, 0.001)
    assert (settings.l1, settings.l2, settings.early_stopping, settings.seed) == (0, 0, False, 7)


def test_a_file_gives_settings_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    file.write_text("epochs: 12\nlearning_rate: 0.004\n")
    assert read_settings(file, {"epochs": 3}) == Settings(epochs=3, learning_rate=0.004)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing yet\n")
    assert read_settings(file) == Settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs: 5\nlerning_rate: 1\n", "line 2: unknown setting 'lerning_rate'. The nearest"),
        ("epochs: two\n", "line 1: epochs: "),
        ("epochs: 5\nl2: -1\n", "line 2: l2: "),
        ("seed: 1\nlearning_rate: .nan\n", "line 2: learning_rate: "),
        ("- epochs\n", "expected settings such as 'epochs: 5'"),
        ("epochs: [1\n", "not a readable settings file"),
        ("x: !!python/object/apply:os.getcwd []\n", "not a readable settings file"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_settings(file)
    assert str(file) in str(refused.value)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(no such file\)\. Give a YAML file of settings"):
        read_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"epochs": 0}, "--epochs: expected a whole number from 1 to 10,000, got 0."),
        ({"batch_size": -1}, "--batch-size: expected a whole number above 0, got -1."),
        (
            {"learning_rate": float("inf")},
            "--learning-rate: expected a finite number above 0, got inf.",
        ),
        ({"l1": float("nan")}, "--l1: expected a finite number from 0 on, got nan."),
        ({"seed": -1}, "--seed: expected a whole number from 0 on, below 4,294,967,296, got -1."),
        ({"full_scale": 0.0}, "--full-scale: expected a finite number above 0, got 0.0."),
        ({"resize": 3}, "--resize: expected true or false, got 3."),
        ({"network": 3}, "--network: expected text, got 3."),
    ],
)
def test_a_wrong_option_is_named_as_it_was_typed(values: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve_settings(values)
    assert str(refused.value).startswith(place)
