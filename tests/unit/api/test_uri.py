"""pvc:// URIs."""

from pathlib import PurePosixPath

import pytest

from cycleops.api.uri import BadUriError, PvcUri, parse_uri


@pytest.mark.parametrize(
    ("text", "claim", "path"),
    [
        ("pvc://models/all-minilm-l6-v2", "models", "all-minilm-l6-v2"),
        ("pvc://data/wordnet/train.jsonl", "data", "wordnet/train.jsonl"),
        ("pvc://my.claim-1/a/b/", "my.claim-1", "a/b"),
        ("pvc://c/.hidden/..also/...x", "c", ".hidden/..also/...x"),
    ],
)
def test_good(text: str, claim: str, path: str) -> None:
    uri = parse_uri(text)
    assert uri == PvcUri(claim=claim, path=path)
    assert uri.container_path == PurePosixPath("/mnt/pvc") / claim / path
    assert parse_uri(str(uri)) == uri


@pytest.mark.parametrize("text", ["s3://bucket/x", "hf://org/repo@main", "https://host/x", "PVC://a/b"])
def test_other_schemes_say_what_works(text: str) -> None:
    with pytest.raises(BadUriError, match=r"not supported: pvc://CLAIM/PATH is what works today"):
        parse_uri(text)


@pytest.mark.parametrize("text", ["", "models", "/models/x", "pvc:/a/b"])
def test_no_uri(text: str) -> None:
    with pytest.raises(BadUriError, match="not a URI"):
        parse_uri(text)


@pytest.mark.parametrize(
    "text",
    [
        *("pvc://", "pvc://claim", "pvc://claim/", "pvc:///path", "pvc://Claim/x", "pvc://claim//x", "pvc://-a/b"),
        *("pvc://claim/../x", "pvc://claim/x/..", "pvc://claim/./x", "pvc://claim/a b", "pvc://claim/a\nb"),
        *("pvc://claim/x\n", "pvc://claim/" + "a" * 1024),
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(BadUriError, match="must be pvc://CLAIM/PATH"):
        parse_uri(text)


def test_joined_stays_below() -> None:
    assert str(parse_uri("pvc://models/out/").joined("sha256-00", "variants")) == "pvc://models/out/sha256-00/variants"
