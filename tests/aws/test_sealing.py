"""A sealed key opens in its own place and nowhere else; without KMS nothing is sealed or opened."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chalicelib.aws import sealing
from chalicelib.aws.clients import kms
from chalicelib.core import settings
from chalicelib.keys.errors import SealingUnavailable, UnsealingFailed
from chalicelib.keys.model import PlainFields, SealedKey

PRODUCT, LOT = "prd_a", "lot_a"


@pytest.fixture
def calls(stack):
    """Counts KMS calls by operation."""
    counted: dict[str, int] = {}

    def note(model, **_):
        counted[model.name] = counted.get(model.name, 0) + 1

    kms().meta.events.register("before-call", note)
    return counted


def sealed_keys(values, product_id=PRODUCT, lot_id=LOT, page=3):
    data_key = sealing.new_data_key(product_id, lot_id)
    blobs = sealing.seal_page(product_id, lot_id, page, [PlainFields(code=value) for value in values], data_key)
    return [SealedKey(lot_id, page * 16 + place, blob, data_key.wrapped) for place, blob in enumerate(blobs)]


def test_what_is_sealed_opens_again_with_its_fields_and_its_id(stack):
    opened = sealing.unseal(PRODUCT, sealed_keys(["卡密-1", "two"]))
    assert [(key.key_id, dict(key.fields)) for key in opened] == [
        ("lot_a.48", {"code": "卡密-1"}),
        ("lot_a.49", {"code": "two"}),
    ]


def test_a_blob_shows_nothing_of_its_key_and_never_looks_the_same_twice(stack):
    one, two = sealed_keys(["CANARY", "CANARY"])
    assert b"CANARY" not in one.blob
    assert one.blob[12:] != two.blob[12:]
    assert one.blob[:12] != two.blob[:12]


def test_an_altered_or_truncated_blob_does_not_open_and_is_counted(stack, capsys):
    (key,) = sealed_keys(["x"])
    altered = [
        key.blob[:place] + bytes([key.blob[place] ^ 1]) + key.blob[place + 1 :] for place in range(len(key.blob))
    ]
    truncated = [key.blob[:length] for length in (0, 5, 12, 27, len(key.blob) - 1)]
    for blob in (*altered, *truncated):
        with pytest.raises(UnsealingFailed):
            sealing.unseal(PRODUCT, [replace(key, blob=blob)])
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert [metric["UnsealingFailed"] for metric in metrics] == [[1.0]] * (len(altered) + len(truncated))


def test_two_blobs_swapped_within_a_page_do_not_open(stack):
    one, two = sealed_keys(["x", "y"])
    with pytest.raises(UnsealingFailed):
        sealing.unseal(PRODUCT, [replace(one, blob=two.blob)])


def test_a_key_moved_to_another_lot_or_product_does_not_open_even_with_its_data_key_in_memory(stack):
    (key,) = sealed_keys(["x"])
    sealing.unseal(PRODUCT, [key])
    with pytest.raises(UnsealingFailed):
        sealing.unseal("prd_b", [key])
    with pytest.raises(UnsealingFailed):
        sealing.unseal(PRODUCT, [replace(key, lot_id="lot_b")])


def test_the_blob_itself_is_bound_to_its_product_whatever_kms_says(stack, monkeypatch):
    (key,) = sealed_keys(["x"])
    monkeypatch.setattr(sealing, "_context", lambda *_: {"purpose": "card-key", "product": PRODUCT, "lot": LOT})
    assert sealing.unseal(PRODUCT, [key])
    for product_id, moved in (
        ("prd_b", key),
        (PRODUCT, replace(key, lot_id="lot_b")),
        (PRODUCT, replace(key, number=1)),
    ):
        with pytest.raises(UnsealingFailed):
            sealing.unseal(product_id, [moved])


def test_one_call_to_kms_opens_all_keys_under_a_data_key(calls):
    keys = sealed_keys([str(number) for number in range(16)])
    sealing.unseal(PRODUCT, keys)
    sealing.unseal(PRODUCT, keys)
    assert calls == {"GenerateDataKey": 1, "Decrypt": 1}


def test_a_data_key_is_asked_for_again_when_it_is_old_or_much_used(calls, monkeypatch):
    keys = sealed_keys(["x", "y", "z"])
    monkeypatch.setattr(sealing, "MAX_USES", 2)
    sealing.unseal(PRODUCT, keys)
    assert calls["Decrypt"] == 2
    sealing.forget_data_keys()
    monkeypatch.setattr(sealing, "KEEP_SECONDS", 0)
    sealing.unseal(PRODUCT, keys[:1])
    sealing.unseal(PRODUCT, keys[:1])
    assert calls["Decrypt"] == 4


def test_only_so_many_data_keys_are_kept_and_the_least_used_goes_first(calls, monkeypatch):
    monkeypatch.setattr(sealing, "MAX_KEPT", 2)
    one, two, three = (sealed_keys(["x"])[0] for _ in range(3))
    sealing.unseal(PRODUCT, [one, two, one, three])
    assert (len(sealing._kept), calls["Decrypt"]) == (2, 3)
    sealing.unseal(PRODUCT, [one])
    assert calls["Decrypt"] == 3
    sealing.unseal(PRODUCT, [two])
    assert calls["Decrypt"] == 4


def test_without_kms_nothing_is_sealed_or_opened_and_the_caller_may_try_again(stack):
    (key,) = sealed_keys(["x"])
    key_id = kms().describe_key(KeyId=settings.card_key_alias())["KeyMetadata"]["KeyId"]
    kms().disable_key(KeyId=key_id)
    for attempt in (lambda: sealing.new_data_key(PRODUCT, LOT), lambda: sealing.unseal(PRODUCT, [key])):
        with pytest.raises(SealingUnavailable) as refused:
            attempt()
        assert (refused.value.status, refused.value.retry) == (503, "same_request")
    kms().enable_key(KeyId=key_id)
    assert dict(sealing.unseal(PRODUCT, [key])[0].fields) == {"code": "x"}


def test_a_data_key_hides_itself_when_printed(stack):
    data_key = sealing.new_data_key(PRODUCT, LOT)
    assert repr(data_key.plain)[2:-1] not in repr(data_key)
    sealing.unseal(PRODUCT, sealed_keys(["x"]))
    assert all(repr(kept.plain) not in repr(kept) for kept in sealing._kept.values())
