"""The all-integer machine against a plain numpy walk, bit for bit, and its file format against damage."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikelet.errors import ConversionError, FormatError, SpikeletError
from spikelet.integer import LIF, SRM, Add, Conv, IntegerNetwork, MaxPool, Neuron, SumPool, load, reference
from spikelet.integer.check import leaky_potential
from spikelet.integer.engine import NO_COUNTS
from spikelet.integer.fanout import dense_operations, fanout_tables
from spikelet.integer.format import _checksum, pack, unpack
from spikelet.integer.stages import Work

FIELDS = ("logits", "neurons", "positive", "negative", "synaptic_operations", "effective_operations")
ENTERED = ("input_events", "input_operations")
STEPS = 8  # frames of a drawn recording
SMALL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(SMALL, max_examples=12)


class Builder:
    """Draws a random network node by node; integers from a seeded generator, so that examples shrink by seed."""

    def __init__(self, seed: int, leaky: bool | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.input_shape = (self.pick(1, 2, 3), *(int(n) for n in self.rng.integers(4, 9, 2)))
        self.nodes: list = []
        self.shapes: list[tuple[int, int, int]] = []
        self.leaky = self.pick(True, True, False) if leaky is None else leaky
        self.frames = self.pick(0, 1, 255) if self.leaky else 0
        offset = tuple(int(o) for o in self.rng.integers(0, 256, self.input_shape[0]))
        self.offset = self.pick((), offset) if self.leaky and not self.frames else ()

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def network(self) -> IntegerNetwork:
        self.conv(-1)
        for _ in range(int(self.rng.integers(0, 5))):
            self.pick(self.conv, self.conv, self.pool, self.residual)(len(self.nodes) - 1)
        self.conv(len(self.nodes) - 1, readout=True)
        return IntegerNetwork(self.nodes, self.input_shape, {"drawn": True}, self.offset, self.frames)

    def conv(self, source: int, same: bool = False, readout: bool = False) -> None:
        c, h, w = self.input_shape if source < 0 else self.shapes[source]
        groups = 1 if readout else self.pick(*(g for g in (1, 1, 2, 3) if c % g == 0))
        channels = c if same else groups * self.pick(1, 3, 8, 16)
        kernel, stride, padding = (h, w), (1, 1), (0, 0)
        if same:
            kernel, padding = (3, 3), (1, 1)
        elif not readout:
            padding = self.pair(0, 1)
            most = [min(4, n + 2 * p) for n, p in zip((h, w), padding, strict=True)]
            kernel = tuple(int(self.rng.integers(1, m + 1)) for m in most)
            stride = self.pair(1, 3)
        bits, shape = self.pick(1, 2, 2, 2, 3, 8, 8, *[12] * self.leaky), (channels, c // groups, *kernel)
        largest = 2 ** (bits - 1) - 1 if bits > 1 else 1
        lowest = -1 if bits <= 2 and self.pick(True, True, False) else -largest - 1
        weight = self.rng.integers(lowest, largest + 1, shape).astype(np.int8 if bits <= 8 else np.int16)
        weight = weight if bits > 1 else np.where(weight < 0, -1, 1).astype(np.int8)
        reach, spikes = (
            (200 if source < 0 and self.frames == 0 else 3) * (1 + largest // 2),
            readout and not (self.leaky and self.pick(0, 1)),
        )
        most = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * (255 if source < 0 else 20)
        leaky = self.pick(self.lif, self.srm)
        neuron = None if spikes else leaky(reach, most) if self.leaky else self.neuron(channels, reach)
        biased = neuron is None and self.pick(True, False)
        bias = self.rng.integers(-99, 99, channels).astype(np.int32) if biased else None
        self.nodes.append(Conv(f"conv{len(self.nodes)}", source, weight, stride, padding, groups, bits, neuron, bias))
        self.shapes.append((channels, *window_counts((h, w), kernel, stride, padding)))

    def neuron(self, channels: int, reach: int) -> Neuron:
        f = int(self.rng.integers(0, 6))
        first = self.rng.integers(-reach << f, (2 * reach << f) + 1, channels).astype(np.int32)
        step = self.rng.integers(1, (reach << f) + 2, channels).astype(np.int32)
        return Neuron(first, step, f, self.pick(1, 2, 4, 5, 127))

    def lif(self, reach: int, most: np.ndarray) -> LIF:
        """With a leak that no membrane can overflow, ``most`` [C_out] being what a step can add."""
        f, shift = int(self.rng.integers(0, 6)), int(self.rng.integers(0, 5))
        bias = self.rng.integers(-reach << f, (reach << f) + 1, len(most)).astype(np.int32) // 4
        threshold = self.rng.integers(1, (reach << f) + 2, len(most)).astype(np.int32)
        leak = int(self.rng.integers(0, 2**shift + 1))
        return self.fitting(LIF(bias * self.pick(0, 1), threshold, leak, shift, f, self.pick("zero", "subtract")), most)

    def srm(self, reach: int, most: np.ndarray) -> SRM:
        """Like ``lif``, mostly with a second trace that is forgotten faster."""
        first = self.lif(reach, most)
        shift, scale = int(self.rng.integers(0, 11)), self.pick(1, 1, 4, 16)
        leaks = sorted(int(n) for n in self.rng.integers(0, 2**shift + 1, 2))
        slow, fast = leaks if self.pick(False, False, False, True) else leaks[::-1]
        threshold = np.maximum(first.threshold // scale, 1)  # what an input leaves in m - c is little
        return self.fitting(SRM(first.bias, threshold, slow, shift, first.fraction_bits, fast, shift), most)

    def fitting(self, neuron, most: np.ndarray):
        """``neuron`` with coarser and faster leaks, until none of its membranes can overflow."""
        leaks = ("leak", "synapse_leak") if isinstance(neuron, SRM) else ("leak",)
        shifts = ("shift", "synapse_shift") if isinstance(neuron, SRM) else ("shift",)
        while leaky_potential(most, neuron) >= 2**31 - 1:
            halved = {name: getattr(neuron, name) // 2 for name in leaks}
            fewer = {name: max(0, getattr(neuron, name) - 1) for name in (*shifts, "fraction_bits")}
            neuron = dataclasses.replace(neuron, **halved, **fewer)
        return neuron

    def pool(self, source: int) -> None:
        c, h, w = self.shapes[source]
        kernel = tuple(int(self.rng.integers(1, min(3, n) + 1)) for n in (h, w))
        padding = tuple(int(self.rng.integers(0, k)) for k in kernel)
        stride = self.pair(1, 2)
        self.nodes.append(
            self.pick(SumPool, SumPool if self.leaky else MaxPool)(
                f"pool{len(self.nodes)}", source, kernel, stride, padding
            )
        )
        self.shapes.append((c, *window_counts((h, w), kernel, stride, padding)))

    def residual(self, source: int) -> None:
        self.conv(source, same=True)
        self.nodes.append(Add(f"add{len(self.nodes)}", (source, len(self.nodes) - 1)))
        self.shapes.append(self.shapes[source])

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return tuple(int(n) for n in self.rng.integers(low, high + 1, 2))

    def images(self, n: int) -> np.ndarray:
        shape = (n, *self.input_shape)
        if self.frames:
            shape = (STEPS, *shape)
            drawn = self.rng.poisson(0.3, shape) * self.pick(1, 1, 9) + 255 * (self.rng.random(shape) < 0.002)
            return drawn.clip(0, self.frames).astype(np.uint8)
        return (self.rng.integers(0, 256, shape) * (self.rng.random(shape) < 0.6)).astype(np.uint8)


def window_counts(size, kernel, stride, padding):
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))


def assert_same(a, b) -> None:
    assert (a.input_events is None) == (b.input_events is None)
    for field in FIELDS + ENTERED * (a.input_events is not None):
        x, y = getattr(a, field), getattr(b, field)
        assert x.dtype == y.dtype and x.shape == y.shape, field
        np.testing.assert_array_equal(x, y, err_msg=field)
    for layer, x, y in zip(a.layers, a.counts, b.counts, strict=True):
        assert x.dtype == y.dtype and x.dtype in (np.int8, np.int16), layer
        np.testing.assert_array_equal(x, y, err_msg=layer)


def small_network() -> IntegerNetwork:
    return Builder(3, leaky=False).network()


seeds = st.integers(0, 2**32 - 1)


@SMALL
@given(seeds, st.integers(1, 7), st.integers(1, 8))
def test_every_backend_equals_the_numpy_walk(seed, batch, num_steps):
    builder = Builder(seed)
    network = builder.network()
    images = builder.images(batch)
    expected = network.run(images, num_steps, record=True, counts=True, backend="reference")
    for backend in ("auto", "events", "dense", "bits"):
        for threads in (1, 2):
            found = network.run(images, num_steps, True, True, backend=backend, num_threads=threads)
            assert_same(found, expected)


@FEW
@given(seeds)
def test_batch_size_changes_nothing(seed):
    builder = Builder(seed)
    network = builder.network()
    images = builder.images(5)
    together = network.run(images, 4)
    for i in range(5):
        alone = images[:, i : i + 1] if network.frames else images[i : i + 1]
        np.testing.assert_array_equal(network.run(alone, 4).logits[:, 0], together.logits[:, i])


@FEW
@given(seeds)
def test_a_settled_run_ends_at_the_closed_form(seed):
    builder = Builder(seed, leaky=False)
    network = builder.network()
    images = builder.images(3)
    exact, logits = reference.settled(network, images)
    steps = 128 * (1 + len(network.layers))
    run = network.run(images, steps, counts=True)
    for count, expected in zip(run.counts, exact, strict=True):
        np.testing.assert_array_equal(count, expected)
    np.testing.assert_array_equal(run.logits.sum(axis=0), logits)
    np.testing.assert_array_equal(network.predict(images, steps), logits.argmax(axis=1))


@FEW
@given(seeds)
def test_order_of_events_within_a_step_never_matters(seed):
    builder = Builder(seed)
    network = builder.network()
    images, num_steps = builder.images(3), 5
    expected = network.run(images, num_steps).logits
    logits = np.zeros_like(expected)
    work, outputs = Work(), {}
    work.begin(3, num_steps, images, 0, "auto")
    for stage in network._compiled().stages:
        spikes = stage.run(work, outputs, NO_COUNTS, logits)
        if stage.capacity:  # the readout sends no spikes
            for a, b in zip(spikes.starts[:-1], spikes.starts[1 : 2 * 3 * num_steps + 1], strict=False):
                builder.rng.shuffle(spikes.events[a:b])
        outputs[stage.index] = spikes
    np.testing.assert_array_equal(logits, expected)


@FEW
@given(seeds)
def test_fan_out_is_the_number_of_weights_that_a_spike_touches(seed):
    network = Builder(seed).network()
    tables = fanout_tables(network, nonzero=False), fanout_tables(network, nonzero=True)
    rng = np.random.default_rng(seed)
    for i in (-1, *network.layers):
        for _ in range(3):
            shape = network.input_shape if i < 0 else network.shapes[i]
            site = tuple(int(rng.integers(n)) for n in shape)
            assert tuple(int(t[i][site]) for t in tables) == touched(network, i, site)


def touched(network: IntegerNetwork, i: int, site: tuple[int, int, int]) -> tuple[int, int]:
    """Brute force: walk every window of every consumer and count the weights that meet the spike."""
    c, y, x = site
    total = nonzero = 0
    for j, node in enumerate(network.nodes):
        if isinstance(node, Add):
            parts = [touched(network, j, site) for s in node.sources if s == i]
        elif node.source != i or isinstance(node, MaxPool):
            parts = []
        else:
            kernel = node.kernel if isinstance(node, SumPool) else node.weight.shape[2:]
            _, height, width = network.shapes[j]
            met = [
                (oy, ox, y - oy * node.stride[0] + node.padding[0], x - ox * node.stride[1] + node.padding[1])
                for oy in range(height)
                for ox in range(width)
            ]
            met = [m for m in met if 0 <= m[2] < kernel[0] and 0 <= m[3] < kernel[1]]
            if isinstance(node, SumPool):
                parts = [touched(network, j, (c, oy, ox)) for oy, ox, _, _ in met]
            else:
                size, out = node.weight.shape[1], len(node.weight) // node.groups
                group = slice(c // size * out, (c // size + 1) * out)
                weights = [node.weight[group, c % size, ky, kx] for _, _, ky, kx in met]
                parts = [(len(w), int(np.count_nonzero(w))) for w in weights]
        for a, b in parts:
            total, nonzero = total + a, nonzero + b
    return total, nonzero


def test_dense_operations_honour_borders_and_groups():
    weight = np.ones((4, 1, 3, 3), np.int8)
    conv = Conv("c", -1, weight, (2, 2), (1, 1), 2, 2, None)
    assert dense_operations(conv, (2, 5, 5)) == 4 * (2 + 3 + 2) ** 2


@SMALL
@given(st.lists(st.integers(-128, 127)), st.lists(st.integers(-1, 1)))
def test_pack_and_unpack_are_inverse(wide, narrow):
    signs = [1 if code > 0 else -1 for code in wide]
    for codes, bits in ((wide, 8), (narrow, 2), (narrow, 8), (signs, 1), (narrow, 3), (wide, 9), (wide, 16)):
        codes = np.array(codes, np.int8 if bits <= 8 else np.int16)
        packed = pack(codes, bits)
        assert packed.dtype == np.uint8 and len(packed) == -(-len(codes) * bits // 8)
        np.testing.assert_array_equal(unpack(packed, bits, len(codes)), codes)


@FEW
@given(seeds)
def test_saved_and_loaded_it_is_the_same_network(seed):
    import tempfile

    builder = Builder(seed)
    network = builder.network()
    images = builder.images(2)
    with tempfile.TemporaryDirectory() as folder:
        path = network.save(Path(folder) / "network.safetensors")
        again = load(path)
        assert [p.name for p in Path(folder).iterdir()] == ["network.safetensors"]
    assert again.metadata == network.metadata and again.input_shape == network.input_shape
    assert again.describe() == network.describe()
    assert_same(again.run(images, 5, True, True), network.run(images, 5, True, True))


def test_a_file_of_the_version_before_frames_is_read(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    network = small_network()
    path = network.save(tmp_path / "net.safetensors")
    with safe_open(path, framework="numpy") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    architecture = json.loads(header["architecture"])
    assert header["version"] == "3" and architecture.pop("frames") == 0
    old = header | {"version": "2", "architecture": json.dumps(architecture)}
    save_file(tensors, path, old | {"checksum": _checksum(old["architecture"], tensors)})
    assert load(path).describe() == network.describe() and load(path).frames == 0


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, 0.5, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = small_network().save(tmp_path / "net.safetensors")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(FormatError, match=r"net\.safetensors"):
        load(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = small_network().save(tmp_path / "net.safetensors")
    raw, rng = path.read_bytes(), np.random.default_rng(1)
    for position in {*rng.integers(0, len(raw), 60).tolist(), len(raw) - 1}:
        damaged = bytearray(raw)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"net\.safetensors"):
            load(path)


def test_foreign_and_missing_files_are_refused_by_name(tmp_path):
    from safetensors.numpy import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.int8)}, foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("not a network at all, but long enough for a header")
    for path in (foreign, text, tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(FormatError, match=path.name):
            load(path)


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    network = small_network()
    network.metadata["no json"] = object()
    with pytest.raises(SpikeletError, match="metadata"):
        network.save(tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_wrong_input_is_one_clear_error():
    network = small_network()
    good = np.zeros((2, *network.input_shape), np.uint8)
    wrong = [good.astype(np.float32), good.astype(np.int64), good[0], good[..., 1:], np.zeros((2, 9, 9, 9), np.uint8)]
    for images in wrong:
        with pytest.raises(SpikeletError, match="images: expected uint8"):
            network.run(images, 4)
    for key, value in {"num_steps": 0, "backend": "float", "num_threads": 0}.items():
        with pytest.raises(SpikeletError, match=key):
            network.run(**{"images": good, "num_steps": 4} | {key: value})


def event_network(frames: int = 3) -> IntegerNetwork:
    """One SRM neuron of weight 1 that reads frames, on paper: m = 3/4 m + x, c = 1/2 c + x, 4 binary places."""
    neuron = SRM(np.array([0], np.int32), np.array([7], np.int32), 3, 2, 4, 1, 1)
    return IntegerNetwork([conv(weight=np.ones((1, 1, 1, 1), np.int8), neuron=neuron)], (1, 1, 1), frames=frames)


def test_two_traces_by_hand():
    """One event: 16 - 16, 12 - 8, 9 - 4, 6 - 2 stay below 7. Two: 32 - 32, then 24 - 16 fires, and all is 0."""
    frames = np.zeros((5, 2, 1, 1, 1), np.uint8)
    frames[0, :, 0, 0, 0] = 1, 2
    run = event_network().run(frames, 5, record=True, counts=True)
    assert run.logits[:, :, 0].T.tolist() == [[0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert run.counts[0].ravel().tolist() == [0, 1]
    assert run.input_events.tolist() == [3, 0, 0, 0, 0] and run.input_operations[:, 0].tolist() == [3, 3]


def test_frames_that_do_not_fit_are_one_clear_error():
    network, good = event_network(), np.zeros((4, 2, 1, 1, 1), np.uint8)
    for frames in (good.astype(np.int64), good[0], good[..., 0], np.zeros((4, 2, 2, 1, 1), np.uint8)):
        with pytest.raises(SpikeletError, match=r"frames: expected uint8 \[T, N, 1, 1, 1\]"):
            network.run(frames, 4)
    with pytest.raises(SpikeletError, match="frames: expected counts up to 3, got 4"):
        network.run(good + 4, 4)
    with pytest.raises(SpikeletError, match="num_steps: expected 1 to 4, the number of frames, got 5"):
        network.run(good, 5)
    for frames in (-1, 256, 1.0):
        with pytest.raises(ConversionError, match="frames: expected 0, for an image, or counts up to 1 to 255"):
            event_network(frames)
    with pytest.raises(ConversionError, match="frames: only networks of leaky neurons"):
        IntegerNetwork([conv(), READOUT], (1, 6, 6), frames=1)
    with pytest.raises(SpikeletError, match="images: expected uint8"):
        small_network().run(np.zeros((4, 2, *small_network().input_shape), np.uint8), 4)


def test_what_has_no_room_is_refused():
    neuron = LIF(np.full(2, -(10**5), np.int32), np.ones(2, np.int32), 1, 0, 0, "zero")
    readout = Conv("out", 0, np.ones((2, 2, 4, 4), np.int8), (1, 1), (0, 0), 1, 2, None)
    network = IntegerNetwork([conv(neuron=neuron), readout], (1, 6, 6))
    images = np.zeros((1, 1, 6, 6), np.uint8)
    assert network.run(images, 1024).logits.shape == (1024, 1, 2)
    with pytest.raises(SpikeletError, match="without a leak take at most 1024"):
        network.run(images, 1025)
    leaking = IntegerNetwork([conv(neuron=dataclasses.replace(neuron, leak=0)), readout], (1, 6, 6))
    with pytest.raises(SpikeletError, match="counted over at most 32767 steps, got 32768"):
        leaking.run(images, 32768, counts=True)
    for offset in ((-1,), (256,), (1, 2)):
        with pytest.raises(ConversionError, match="pixel_offset: expected nothing, or 1 numbers of 0 to 255"):
            IntegerNetwork([conv(neuron=neuron), readout], (1, 6, 6), pixel_offset=offset)
    for nodes, frames in (([conv(), READOUT], 0), ([conv(neuron=neuron), READOUT], 1)):
        with pytest.raises(ConversionError, match="only networks of leaky neurons that see images"):
            IntegerNetwork(nodes, (1, 6, 6), pixel_offset=(3,), frames=frames)


def test_an_empty_batch_and_unaligned_images_run():
    network = small_network()
    assert network.run(np.zeros((0, *network.input_shape), np.uint8), 3, True, True).logits.shape[:2] == (3, 0)
    images = Builder(3, leaky=False).images(4)
    strided = np.repeat(images, 2, axis=3)[..., ::2]
    np.testing.assert_array_equal(network.run(strided, 3).logits, network.run(images, 3).logits)


def conv(**changes) -> Conv:
    neuron = Neuron(np.ones(2, np.int32), np.ones(2, np.int32), 4, 4)
    given = {"name": "hidden", "source": -1, "weight": np.ones((2, 1, 3, 3), np.int8), "stride": (1, 1)}
    return Conv(**given | {"padding": (0, 0), "groups": 1, "bits": 2, "neuron": neuron} | changes)


READOUT = Conv("out", 0, np.ones((2, 2, 4, 4), np.int8), (1, 1), (0, 0), 1, 2, None)
WIDE = np.full((2, 1, 3, 3), 127, np.int8)
INVALID = [
    ([conv(weight=np.ones((2, 1, 3, 3), np.int64)), READOUT], "hidden: weight must be int8"),
    ([conv(weight=np.ones((2, 3, 3, 3), np.int8)), READOUT], "hidden: weight expects 3 input channels"),
    ([conv(weight=WIDE), READOUT], "hidden: 2-bit weights"),
    ([conv(weight=np.ones((2, 1, 9, 9), np.int8)), READOUT], r"hidden: kernel .* does not fit"),
    ([conv(stride=(0, 1)), READOUT], "hidden: stride"),
    ([conv(bits=17, weight=np.ones((2, 1, 3, 3), np.int16)), READOUT], "hidden: bits must be 1 to 16, got 17"),
    ([conv(groups=2), READOUT], "hidden: groups"),
    ([conv(source=0), READOUT], "hidden: source 0"),
    ([conv(bias=np.ones(2, np.int32)), READOUT], "hidden: only the readout has a bias"),
    ([conv(neuron=Neuron(np.ones(2, np.int32), np.zeros(2, np.int32), 4, 4)), READOUT], "hidden: step"),
    ([conv(neuron=Neuron(np.ones(2), np.ones(2, np.int32), 4, 4)), READOUT], "hidden: first must be int32"),
    ([conv(neuron=Neuron(np.ones(2, np.int32), np.ones(2, np.int32), 4, 128)), READOUT], "hidden: max_count"),
    ([conv(neuron=None), READOUT], "hidden: only the last node"),
    ([conv()], "hidden: the last node must be"),
    ([conv(), dataclasses.replace(READOUT, weight=np.ones((2, 2, 1, 1), np.int8))], "out: the readout must end in"),
    ([conv(), Add("add", (0, 3)), READOUT], "add: source 3"),
    ([SumPool("pool", -1, (2, 2), (2, 2)), READOUT], "pool: source -1"),
    ([dataclasses.replace(READOUT, source=-1, weight=np.ones((2, 1, 6, 6), np.int8))], "out: the readout must read"),
    ([], "nodes"),
]


@pytest.mark.parametrize(("nodes", "message"), INVALID)
def test_what_does_not_fit_is_refused_with_its_name(nodes, message):
    with pytest.raises(ConversionError, match=message):
        IntegerNetwork(nodes, (1, 6, 6))


def test_a_membrane_that_could_overflow_is_refused():
    def network(bits: int) -> IntegerNetwork:
        neuron = Neuron(np.ones(2, np.int32), np.ones(2, np.int32), bits, 4)
        return IntegerNetwork([conv(weight=WIDE, bits=8, neuron=neuron), READOUT], (1, 6, 6))

    assert network(12).describe()[0]["max_potential"] == 9 * 127 * 255 << 12
    with pytest.raises(ConversionError, match=r"hidden: .* beyond int32"):
        network(13)


def test_membranes_wider_than_int16_stay_exact():
    rng = np.random.default_rng(5)
    nodes: list = [conv(neuron=Neuron(np.full(2, 90, np.int32), np.full(2, 5, np.int32), 0, 127))]
    for i, (kernel, channels) in enumerate([(3, 6), (1, 4)]):
        weight = rng.integers(-128, 128, (channels, 2 if i == 0 else 6, kernel, kernel)).astype(np.int8)
        first = rng.integers(-40000, 80000, channels).astype(np.int32)
        neuron = Neuron(first, rng.integers(1000, 9000, channels).astype(np.int32), 1, 127)
        nodes.append(Conv(f"wide{i}", i, weight, (1, 1), (0, 0), 1, 8, neuron))
    nodes.append(Conv("out", 2, rng.integers(-9, 9, (3, 4, 2, 2)).astype(np.int8), (1, 1), (0, 0), 1, 8, None))
    network = IntegerNetwork(nodes, (1, 6, 6))
    images = rng.integers(0, 256, (4, 1, 6, 6)).astype(np.uint8)
    expected = network.run(images, 20, True, True, backend="reference")
    assert expected.negative.sum() > 0
    for backend in ("events", "dense"):
        assert_same(network.run(images, 20, True, True, backend=backend, num_threads=1), expected)


@pytest.mark.parametrize("seed", [3, 11])
def test_no_float_anywhere(seed):
    builder = Builder(seed, leaky=seed > 3)
    network = builder.network()
    run = network.run(builder.images(2), 3, record=True, counts=True)
    arrays = [getattr(run, field) for field in FIELDS + ENTERED * (network.frames > 0)] + run.counts
    arrays += [a for a in flatten(tuple(network.nodes)) if isinstance(a, np.ndarray)]
    engine = network._compiled()
    for holder in [*engine.stages, *engine._works]:
        arrays += [a for a in flatten(vars(holder)) if isinstance(a, np.ndarray)]
    assert len(arrays) > 20  # the engine's own among them, one work per thread
    assert {a.dtype.kind for a in arrays} <= {"i", "u"}


def flatten(value):
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from flatten(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from flatten(tuple(vars(value).values()))
    else:
        yield value


def test_a_network_survives_pickling_and_threads():
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    builder = Builder(8)
    network = pickle.loads(pickle.dumps(builder.network()))
    images = builder.images(6)
    expected = network.run(images, 4, backend="reference").logits
    with ThreadPoolExecutor(4) as pool:
        for run in pool.map(lambda _: network.run(images, 4, num_threads=2), range(8)):
            np.testing.assert_array_equal(run.logits, expected)
