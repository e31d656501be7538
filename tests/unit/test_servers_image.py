"""An image on its way, and why it does not come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.servers.container.image import Layers, PullProgress, cannot_fetch, digest_of


def layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    return {"id": name, "status": status, "progressDetail": {"current": current, "total": total}}


def after(*events: dict[str, Any]) -> PullProgress:
    layers = Layers()
    for event in events:
        layers.take(event)
    return layers.progress()


def test_bytes_and_layers_add_up() -> None:
    begun = (
        {"status": "Pulling from library/x", "id": "1.0"},
        layer("a", "Pulling fs layer"),
        layer("b", "Waiting"),
        layer("c", "Already exists"),
        layer("a", "Downloading", 30, 100),
    )
    assert after(*begun) == PullProgress(30, 100, 1, 3, 2)
    more = (*begun, layer("b", "Downloading", 5, 50), layer("a", "Download complete"))
    assert after(*more) == PullProgress(105, 150, 1, 3, 3)
    end = (*more, layer("a", "Extracting", 1, 100), layer("a", "Pull complete"))
    assert after(*end, layer("b", "Pull complete")) == PullProgress(150, 150, 3, 3, 3)


def test_what_has_come_of_a_layer_that_broke_off_is_kept() -> None:
    """An engine asks for the rest, and counts that from 0 on."""
    said = [("Downloading", 60, 100), ("Downloading", 100, 100), ("Retrying in 5 seconds", 0, 0)]
    begun = [layer("a", *each) for each in said]  # as Docker ends what it counts of a layer
    assert after(*begun) == PullProgress(60, 100, 0, 1, 1, layers_broken=1)
    assert after(*begun, layer("a", "Downloading", 5, 40)) == PullProgress(65, 100, 0, 1, 1)
    anew = layer("a", "Downloading", 5, 100)  # of a registry that sends nothing but all
    assert after(*begun, anew) == PullProgress(5, 100, 0, 1, 1)


def test_what_is_of_no_layer_changes_nothing() -> None:
    layers = Layers()
    assert not layers.take({"status": "Digest: sha256:0"})
    assert not layers.take({"status": "Pulling from x", "id": "1"})
    assert not layers.take({"progress": "x"})
    assert layers.progress() == PullProgress()


@given(
    st.lists(
        st.builds(
            layer,
            st.sampled_from("abc"),
            st.sampled_from(["Downloading", "Extracting", "Pull complete", "Waiting", "Retrying"]),
            st.integers(0, 100),
            st.just(100),
        )
    )
)
def test_it_never_has_more_than_there_is(events: list[dict[str, Any]]) -> None:
    progress = after(*events)
    assert 0 <= progress.done_bytes <= progress.total_bytes
    assert 0 <= progress.layers_done <= progress.layers_sized <= progress.layers <= 3


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ('Get "https://x/v2/": dial tcp: lookup x: no such host', "registry cannot be reached"),
        ("net/http: TLS handshake timeout", "registry cannot be reached"),
        ("manifest unknown: not here", "registry has no such image"),
        ("pull access denied for x, repository does not exist", "wants a login"),
        ("unauthorized: authentication required", "docker login"),
        ("write /var/lib/x: no space left on device", "no room on the engine's disk"),
        ("unexpected EOF", "the connection to its registry broke off"),
        ("read tcp 1:1->2:2: read: connection reset by peer", "registry broke off"),
        ('Get "https://x/v2/": EOF', "registry broke off"),
        ("something else", "the engine cannot fetch it (something else)"),
    ],
)
def test_why_an_image_does_not_come(said: str, meaning: str) -> None:
    sentence = str(cannot_fetch("x:1", said))
    assert sentence.startswith("the image x:1 is not here and ")
    assert meaning in sentence


def test_the_digest_is_that_of_the_repository_that_was_named() -> None:
    digests = ["mirror.example/triton@sha256:1", "nvcr.io/nvidia/tritonserver@sha256:2"]
    assert digest_of("nvcr.io/nvidia/tritonserver:26.09-py3", digests) == digests[1]
    assert digest_of("other:1", digests) == digests[0]
    assert digest_of("other:1", []) is None
