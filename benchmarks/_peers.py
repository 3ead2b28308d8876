"""The same layers in other libraries, each as a function from a batch of float images [N, C, H, W] to its outputs.

Every peer gets what suits it: images that are float32 already, the first layer once instead of T times, the faster of
two memory formats. A library is imported only when its peer is built.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spikelet.integer import Conv, IntegerNetwork

Run = Callable[[np.ndarray], object]


class Missing(Exception):
    """A library that is not installed."""


def _layers(network: IntegerNetwork) -> list[Conv]:
    """The convolutions of a plain chain, which is all that the peers are written for."""
    nodes = list(network.nodes)
    if not all(isinstance(node, Conv) and node.source == i - 1 for i, node in enumerate(nodes)):
        raise SystemExit("--network: the peers need a plain chain of convolutions, without pooling or residual sums")
    return nodes  # type: ignore[return-value]


def _scaled(node: Conv) -> np.ndarray:
    """Float weights with which activations and spikes stay of order one."""
    weight = node.weight.astype(np.float32)
    if node.neuron is None:
        return weight / 127
    unit = np.maximum(np.abs(node.neuron.first), 1).astype(np.float32) / 2**node.neuron.fraction_bits
    return weight / unit.reshape(-1, 1, 1, 1) * (255 if node.source < 0 else 1)


def _torch_conv(node: Conv, bias: bool):
    import torch

    out, part, *kernel = node.weight.shape
    layer = torch.nn.Conv2d(part * node.groups, out, kernel, node.stride, node.padding, groups=node.groups, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(_scaled(node)))
    return layer.to(memory_format=torch.channels_last)


def float_ann(network: IntegerNetwork, num_steps: int, threads: int) -> dict[str, Run]:
    """Float32 ReLU network in torch, channels_last, batch norm folded away."""
    import torch

    return {"": _torch_run(torch.nn.Sequential(*_torch_ann(network), torch.nn.Flatten()).eval())}


def _torch_ann(network: IntegerNetwork) -> list:
    import torch

    layers: list[torch.nn.Module] = []
    for node in _layers(network):
        layers.append(_torch_conv(node, bias=True))
        if node.neuron is not None:
            layers.append(torch.nn.ReLU(inplace=True))
    return layers


def _torch_run(model, engine: str | None = None) -> Run:
    import torch

    @torch.inference_mode()
    def run(images: np.ndarray) -> object:
        if engine is not None:
            torch.backends.quantized.engine = engine
        return model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))

    return run


def int8_torch(network: IntegerNetwork, num_steps: int, threads: int) -> dict[str, Run]:
    """Int8 ReLU network in torch, static quantization, on each of its engines; the fastest one counts."""
    import torch
    from torch.ao import quantization

    warnings.filterwarnings("ignore", module="torch.ao")
    warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
    runs = {}
    for engine in sorted({"x86", "fbgemm", "onednn"} & {*torch.backends.quantized.supported_engines}):
        torch.backends.quantized.engine = engine
        layers = [quantization.QuantStub(), *_torch_ann(network), quantization.DeQuantStub(), torch.nn.Flatten()]
        model = torch.nn.Sequential(*layers).eval()
        pairs = [[str(i - 1), str(i)] for i, layer in enumerate(layers) if isinstance(layer, torch.nn.ReLU)]
        model = quantization.fuse_modules(model, pairs)
        model.qconfig = quantization.get_default_qconfig(engine)
        prepared = quantization.prepare(model)
        prepared(torch.from_numpy(_calibration(network)))
        runs[engine] = _torch_run(quantization.convert(prepared), engine)
    if not runs:
        raise Missing("this torch has no int8 convolutions for this processor")
    return runs


def _calibration(network: IntegerNetwork) -> np.ndarray:
    """Images of which a fifth is not 0."""
    generator = np.random.default_rng(1)
    shape = (32, *network.input_shape)
    return (generator.random(shape) * (generator.random(shape) < 0.2)).astype(np.float32)


def int8_ann(network: IntegerNetwork, num_steps: int, threads: int) -> dict[str, Run]:
    """Int8 ReLU network in ONNX Runtime, static quantization, in both of its forms; the faster one counts."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        from onnxruntime.quantization import QuantFormat
    except ImportError as error:
        raise Missing(str(error)) from None
    onnxruntime.set_default_logger_severity(3)
    logging.getLogger().setLevel(logging.ERROR)  # its advice on how to quantize, at every call
    return {form.name: _int8_session(network, form, threads) for form in (QuantFormat.QDQ, QuantFormat.QOperator)}


def _int8_session(network: IntegerNetwork, form, threads: int) -> Run:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = [_calibration(network)]

        def get_next(self):
            return {"images": self.batches.pop()} if self.batches else None

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(_onnx_model(network).SerializeToString())
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(source, target, Reader(), quant_format=form, per_channel=True, **kinds)
        raw = target.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _onnx_model(network: IntegerNetwork):
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights, last = [], [], "images"
    for i, node in enumerate(_layers(network)):
        weights.append(numpy_helper.from_array(_scaled(node), f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(len(node.weight), np.float32), f"b{i}"))
        pads = [*node.padding, *node.padding]
        shape = {"strides": list(node.stride), "pads": pads, "group": node.groups}
        nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"c{i}"], **shape))
        last = f"c{i}"
        if node.neuron is not None:
            nodes.append(helper.make_node("Relu", [last], [f"r{i}"]))
            last = f"r{i}"
    nodes.append(helper.make_node("Flatten", [last], ["logits"]))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *network.input_shape])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", network.shapes[-1][0]])
    graph = helper.make_graph(nodes, "ann", [given], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model


def spikingjelly(network: IntegerNetwork, num_steps: int, threads: int) -> dict[str, Run]:
    """Multi-step IF neurons with soft reset; the first convolution once, its output shown at every step."""
    try:
        from spikingjelly.activation_based import functional, layer, neuron
    except ImportError as error:
        raise Missing(str(error)) from None
    import torch

    first, *others = _layers(network)
    encode = _torch_conv(first, bias=False).eval()
    parts: list[torch.nn.Module] = [neuron.IFNode(v_reset=None, step_mode="m")]
    for node in others:
        parts.append(layer.SeqToANNContainer(_torch_conv(node, bias=False)))
        if node.neuron is not None:
            parts.append(neuron.IFNode(v_reset=None, step_mode="m"))
    model = torch.nn.Sequential(*parts).eval()

    def build(memory_format: torch.memory_format) -> Run:
        @torch.no_grad()
        def run(images: np.ndarray) -> object:
            functional.reset_net(model)
            current = encode(torch.from_numpy(images).contiguous(memory_format=memory_format))
            return model(current.unsqueeze(0).expand(num_steps, *current.shape)).sum(0)

        return run

    return {"channels_last": build(torch.channels_last), "contiguous": build(torch.contiguous_format)}


def snntorch(network: IntegerNetwork, num_steps: int, threads: int) -> dict[str, Run]:
    """A step loop over Leaky neurons with beta = 1; the first convolution once."""
    try:
        import snntorch as library
    except ImportError as error:
        raise Missing(str(error)) from None
    import torch

    convs = [_torch_conv(node, bias=False).eval() for node in _layers(network)]
    neurons = [library.Leaky(beta=1.0, reset_mechanism="subtract") for _ in convs[1:]]

    def build(memory_format: torch.memory_format) -> Run:
        @torch.no_grad()
        def run(images: np.ndarray) -> object:
            current = convs[0](torch.from_numpy(images).contiguous(memory_format=memory_format))
            membranes = [neuron.init_leaky() for neuron in neurons]
            total = None
            for _ in range(num_steps):
                x = current
                for i, neuron in enumerate(neurons):
                    x, membranes[i] = neuron(x, membranes[i])
                    x = convs[i + 1](x)
                total = x if total is None else total + x
            return total

        return run

    return {"channels_last": build(torch.channels_last), "contiguous": build(torch.contiguous_format)}


PEERS = {
    "float ANN, torch": float_ann,
    "int8 ANN, ONNX Runtime": int8_ann,
    "int8 ANN, torch": int8_torch,
    "float SNN, SpikingJelly": spikingjelly,
    "float SNN, snnTorch": snntorch,
}
