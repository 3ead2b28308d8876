"""Free Spoken Digits: wave files, names, protocols, the packed file that knows the ears; fakes, then the real files."""

import io
import os
import tarfile
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spikelet.datasets import DATASETS, FSDD, FrameSet, event_cache
from spikelet.datasets.fsdd import SPEAKERS
from spikelet.datasets.layouts import Catalogue
from spikelet.errors import DataError, SpikeletError
from spikelet.events import Ears, Frames, hear, parse_wav, wav_bytes

NUM_TRAIN, NUM_TEST = 240, 70


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of fakes; tests must not change it."""
    root = tmp_path_factory.mktemp("fsdd")
    FSDD.write_fake(root, NUM_TRAIN, NUM_TEST)
    return root


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few fakes, to be damaged, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    FSDD.write_fake(tmp_path / "data", 10, 4)
    return tmp_path / "data"


def fake(root: Path, split: str = "train", protocol: str = "full", **more: Any) -> FSDD:
    return FSDD(root, split, protocol=protocol, verify=False, **more)


def names(data: FSDD) -> set[tuple[int, str, int]]:
    """Digit, speaker and take of each recording."""
    return {(i % 10, SPEAKERS[i // 10 % 6], i // 60) for i in data.indices.tolist()}


# ---------------------------------------------------------------- wave files

SOUNDS = st.sampled_from([np.int8, np.int16, np.int32]).flatmap(
    lambda kind: arrays.arrays(kind, st.integers(0, 50), elements=arrays.from_dtype(np.dtype(kind)))
)


@settings(max_examples=100, deadline=None)
@given(SOUNDS, st.integers(1, 200_000))
def test_wave_round_trip(samples: np.ndarray, rate: int) -> None:
    found, found_rate = parse_wav(wav_bytes(samples, rate))
    assert np.array_equal(found, samples) and found.dtype == samples.dtype and found_rate == rate


def test_bytes_of_a_sound_by_hand() -> None:
    header = b"RIFF\x2a\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\6\0\0\0"
    data = header + bytes([1, 0, 0, 1, 255, 255])
    assert parse_wav(data)[0].tolist() == [1, 256, -1] and parse_wav(data)[1] == 8_000
    assert wav_bytes(np.array([1, 256, -1], np.int16), 8_000) == data
    assert parse_wav(wav_bytes(np.array([-128, 0, 127], np.int8), 8_000))[0].tolist() == [-128, 0, 127]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_wave_file_is_refused_or_read(data: st.DataObject) -> None:
    good = bytearray(wav_bytes(np.arange(30, dtype=np.int16), 8_000))
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        samples, rate = parse_wav(cut)
    except ValueError as error:
        assert str(error)
    else:
        assert samples.ndim == 1 and samples.nbytes <= 2 * len(cut) and rate >= 1


def stereo() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 2, 8_000, 3, "NONE", "not compressed"))
        file.writeframes(bytes(12))
    return buffer.getvalue()


def test_sounds_of_another_kind_are_named() -> None:
    with pytest.raises(ValueError, match="2 channels of 16 bits, expected 1 of 8, 16 or 32"):
        parse_wav(stereo())
    with pytest.raises(SpikeletError, match=r"samples: expected int8, int16 or int32 \[S\], got float64 of \(3,\)"):
        wav_bytes(np.zeros(3), 8_000)
    with pytest.raises(SpikeletError, match="sample_rate: expected 1 to 2147483647, got 0"):
        wav_bytes(np.zeros(3, np.int16), 0)


# ---------------------------------------------------------------- the data set


def test_it_describes_itself() -> None:
    assert DATASETS["fsdd"] is FSDD and FSDD.sensor_size == (700, 1, 1) and len(FSDD.classes) == 10
    for protocol, sizes in (("full", (2_400, 300, 2_700, 300)), ("speaker", (2_000, 500, 2_500, 500))):
        rules = FSDD.protocols[protocol].splits
        assert tuple(rules[split].num for split in ("train", "val", "train+val", "test")) == sizes
    assert dict(FSDD.num) == {split: rule.num for split, rule in FSDD.protocols["full"].splits.items()}
    assert FSDD.source.license == "CC BY-SA 4.0" and "Jakobovski" in FSDD.source.homepage


def test_rules_divide_all_recordings() -> None:
    """The rules alone, on the indices of all 3,000: their sizes, and digits in equal shares."""
    indices = np.arange(FSDD.layouts[0].sizes["recordings"])
    catalogue = Catalogue(indices, indices % 10, indices)
    for protocol in FSDD.protocols.values():
        chosen = {split: rule.choose(catalogue) for split, rule in protocol.splits.items()}
        assert all(
            np.bincount(indices[chosen[split]] % 10).tolist() == [rule.num // 10] * 10
            for split, rule in protocol.splits.items()
        )
        assert (chosen["train"] ^ chosen["val"] == chosen["train+val"]).all()
        assert (chosen["train+val"] ^ chosen["test"]).all()


@pytest.mark.parametrize("protocol", FSDD.protocols)
def test_splits_share_nothing(root: Path, protocol: str) -> None:
    sets = {split: names(fake(root, split, protocol)) for split in FSDD.protocols[protocol].splits}
    assert sets["train"] | sets["val"] == sets["train+val"] and not sets["train"] & sets["val"]
    assert not sets["train+val"] & sets["test"] and all(sets.values())
    takes = {split: {take for _, _, take in found} for split, found in sets.items()}
    speakers = {split: {speaker for _, speaker, _ in found} for split, found in sets.items()}
    if protocol == "full":
        assert takes == {"train": {10, 11, 12, 13}, "val": {5}, "train+val": {5, 10, 11, 12, 13}, "test": {0, 1}}
    else:
        assert speakers["test"] == {"yweweler"} and speakers["val"] == {"theo"}
        assert speakers["train"] == set(SPEAKERS[:4])


def test_recordings_are_those_of_the_files(root: Path) -> None:
    data = fake(root, "test")
    for i in (0, 33, len(data) - 1):
        events, label = data[i]
        digit, speaker, take = label, SPEAKERS[int(data.indices[i]) // 10 % 6], int(data.indices[i]) // 60
        file = root / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav"
        assert np.array_equal(events, hear(*parse_wav(file.read_bytes())))
    assert data.labels.tolist() == (data.indices % 10).tolist() and data.labels.dtype == torch.int64


def test_subset_keeps_all_digits(root: Path) -> None:
    part = fake(root, "train", subset=4)
    assert len(part) == NUM_TRAIN // 4 and part.labels.bincount().tolist() == [6] * 10
    assert len(fake(root, "test", subset=4)) == NUM_TEST


def test_a_fake_can_be_learned(root: Path) -> None:
    def features(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        frames, labels = (data := FrameSet(fake(root, split), Frames(4))).__getitems__(range(len(data)))
        counts = torch.nn.functional.avg_pool1d(frames[:, :, 0, 0].double(), 20).transpose(0, 1).flatten(1)
        return torch.cat([counts, torch.ones(len(counts), 1, dtype=torch.float64)], 1), labels

    (x, y), (x_test, y_test) = features("train"), features("test")
    hot = torch.nn.functional.one_hot(y).double()
    weight = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ hot)
    assert float(((x_test @ weight).argmax(1) == y_test).double().mean()) > 0.9


def test_other_names_are_left_alone(small: Path) -> None:
    folder, num = small / "fsdd" / "recordings", len(fake(small))
    for name in ("10_george_10.wav", "1_jason_10.wav", "1_george_50.wav", "1_george_010.wav", "1_george_11.wav.part"):
        (folder / name).write_bytes(b"?")
    assert len(fake(small)) == num


def test_status_and_where(small: Path, tmp_path: Path) -> None:
    assert FSDD.status(small, verify=False) == "complete" and FSDD.where(small) == str(small / "fsdd")
    assert FSDD.status(small) == "partial: 15 recordings, enough for no protocol"
    assert FSDD.status(tmp_path).startswith("missing: free-spoken-digit-dataset")
    (small / "fsdd").rename(small / "free-spoken-digit-dataset")
    assert len(fake(small)) == 10


# ---------------------------------------------------------------- files that are not as they should be


def test_missing_recordings_say_what_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        FSDD(tmp_path, "test")
    message = str(caught.value)
    assert "\n" not in message and "split test of protocol full has 300 recordings, 0 of them found" in message
    assert str(tmp_path / "fsdd" / "recordings") in message and FSDD.source.homepage in message
    with pytest.raises(DataError, match=r"by hand: .*free-spoken-digit-dataset"):
        FSDD.fetch(tmp_path)


def test_an_archive_got_by_hand_is_unpacked(small: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "free-spoken-digit-dataset-1.0.10.tar.gz", "w:gz") as tar:
        tar.add(small / "fsdd" / "recordings", "free-spoken-digit-dataset-1.0.10/recordings")
    elsewhere = tmp_path / "elsewhere" / "fsdd"
    elsewhere.mkdir(parents=True)
    (tmp_path / "free-spoken-digit-dataset-1.0.10.tar.gz").rename(elsewhere / "free-spoken-digit-dataset-1.0.10.tar.gz")
    with pytest.raises(DataError, match=r"by hand: .*free-spoken-digit-dataset"):  # these are not all of them
        FSDD.fetch(elsewhere.parent)
    assert torch.equal(fake(elsewhere.parent).indices, fake(small).indices)


DAMAGE = {
    "truncated": (lambda data: data[:-100], "truncated, it holds 1150 of 1200 samples"),
    "no sound file": (lambda data: b"<html>" * 50, "no wave file, or its header is damaged: file does not start with"),
    "empty": (lambda data: b"", "no wave file, or its header is damaged: it ends too early"),
    "silent": (lambda data: data[:44] + bytes(len(data) - 44), "empty, it holds no event"),
    "slow": (lambda data: wav_bytes(parse_wav(data)[0], 4_000), r"sample_rate: expected 7800\.0 \(twice high_hz\)"),
    "stereo": (lambda data: stereo(), "2 channels of 16 bits"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_each_damaged_recording_is_named(small: Path, damage: Any, message: str) -> None:
    path = small / "fsdd" / "recordings" / "3_george_10.wav"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        fake(small)
    said = str(caught.value)
    assert said.startswith(f"{path} is damaged: ") and "\n" not in said and FSDD.source.homepage in said
    assert not list(small.rglob("*.part")) and not list(small.rglob("*.events"))


# ---------------------------------------------------------------- the packed file


def test_other_ears_make_another_packed_file(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = event_cache._make
    monkeypatch.setattr(event_cache, "_make", lambda path, contents: (made.append(1), make(path, contents)))

    class Dull(FSDD):
        layouts = (replace(FSDD.layouts[0], ears=Ears(channels=50, range_db=20)),)
        sensor_size = (50, 1, 1)

    first = fake(small)
    assert len(fake(small, "test")) == 4 and len(made) == 1  # one file for all splits
    dull = Dull(small, "train", verify=False)
    assert len(made) == 2 and dull.cached.recordings.sensor_size == (50, 1, 1)
    assert len(dull[0][0]) < len(first[0][0]) / 5
    os.utime(small / "fsdd" / "recordings" / "3_george_10.wav", ns=(1, 1))
    assert np.array_equal(fake(small)[2][0], first[2][0]) and len(made) == 3


# ---------------------------------------------------------------- the official files


@pytest.mark.real_data
def test_the_official_recordings(data_root: Path) -> None:
    if "full" not in FSDD.possible(data_root):
        pytest.skip(f"fsdd is not under {data_root}")
    for protocol, rules in FSDD.protocols.items():
        for split, rule in rules.splits.items():
            data = FSDD(data_root, split, protocol=protocol)
            assert len(data) == rule.num and len(set(data.labels.bincount().tolist())) == 1
    counts = np.array(data.cached.recordings.counts)
    assert 8_000 < counts.mean() < 10_000 and counts.min() > 500
    silent = np.bincount(np.concatenate([data[i][0]["x"] for i in range(50)]), minlength=700) == 0
    assert silent.mean() < 0.05
