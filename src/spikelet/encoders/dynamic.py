"""A code that is learned, and that looks at what it encodes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spikelet.arguments import check_whole
from spikelet.encoders.delta import delta
from spikelet.encoders.direct import direct
from spikelet.encoders.latency import latency
from spikelet.encoders.rate import rate
from spikelet.errors import SpikeletError

IMAGE_CODES = ("direct", "latency", "rate")
FRAME_CODES = ("delta", "event")
HIDDEN = 16  # of what makes the gain

Code = Callable[[Tensor, int, torch.Generator | None], Tensor]
Linear = Callable[[Tensor, Tensor], Tensor]


BANK: dict[str, Code] = {
    "delta": lambda x, num_steps, generator: delta(x),
    "direct": lambda x, num_steps, generator: direct(x, num_steps),
    "event": lambda x, num_steps, generator: x,
    "latency": lambda x, num_steps, generator: latency(x, num_steps),
    "rate": rate,
}


class DynamicCode(nn.Module):
    """A learned mix of codes: images ``x`` [N, ...] in [0, 1], or frames [T, N, ...], to currents [T, N, ...].

        x_t = g_t * sum over k of softmax(a)_k * code_k(x)_t
        g_t = 2 * sigmoid(MLP(mean of x, standard deviation of x))_t       for each sample; without ``gain`` 1

    codes      of images "direct" (x at every step), "rate" (Bernoulli spikes), "latency" (one spike of x above 0, at
               step round((T - 1) * (1 - x))); of frames "event" (as they are) and "delta" (a spike where they change)
    num_steps  T, over which images are spread; ``forward`` may be asked for fewer steps, which are then the first ones,
               or for more: no spike of latency comes later, and the gain stays what it was last

    a begins at 0, the mean of the codes, and the gain at 1: the MLP, of 16 hidden units, ends in zeros. The draws of
    rate come from the ``generator`` that ``forward`` is given. Without one, they are a function of ``seed``, torch's
    when this was made, in evaluation always the same, in training of ``passes``, the passes so far, as well. Both are
    kept with the weights. Gradients reach a and the gain, not x. Source: reference 6.4 A.

    >>> code = DynamicCode(["direct", "latency"], num_steps=3)
    >>> code(torch.tensor([[1.0, 0.5]])).detach().tolist()
    [[[1.0, 0.25]], [[0.5, 0.75]], [[0.5, 0.25]]]
    """

    seed: Tensor
    passes: Tensor

    def __init__(self, codes: Sequence[str], num_steps: int, gain: bool = False) -> None:
        super().__init__()
        check_whole("num_steps", num_steps)
        check_codes("codes", codes)
        self.codes, self.num_steps = tuple(codes), num_steps
        self.a = nn.Parameter(torch.zeros(len(self.codes)))
        self.gain = _gain(num_steps) if gain else None
        if "rate" in self.codes:
            self.register_buffer("seed", torch.tensor(torch.initial_seed() % 2**31))
            self.register_buffer("passes", torch.tensor(0))

    @property
    def of_frames(self) -> bool:
        """Whether it encodes frames, not images."""
        return self.codes[0] in FRAME_CODES

    def forward(
        self,
        x: Tensor,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        through: Linear | None = None,
    ) -> Tensor:
        """``through``: a linear map of [M, ...], times a factor []; each code passes it on its own, with its share.

        It comes to the same as behind the mix, but sees spikes as spikes, and an image that does not change once.
        """
        codes = self._codes(x, num_steps, generator).values()
        mixed = sum(_passed(code, share, through) for code, share in zip(codes, self.a.softmax(0), strict=True))
        assert isinstance(mixed, Tensor)
        return mixed if self.gain is None else mixed * _behind(self._gains(x, len(mixed)), mixed)

    def spikes(self, x: Tensor, num_steps: int | None = None) -> Tensor | None:
        """What the codes send, spikes or events at each step and site [T, N, ...]; None of an image as it is alone."""
        sent = [code.abs() for name, code in self._codes(x, num_steps, None).items() if name != "direct"]
        return torch.stack(sent).sum(0) if sent else None

    def _codes(self, x: Tensor, num_steps: int | None, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Each code, [T, N, ...]."""
        num_steps = len(x) if self.of_frames else self.num_steps if num_steps is None else num_steps
        check_whole("num_steps", num_steps)
        if "rate" in self.codes and generator is None:
            generator = self._generator(x.device)
        most = max(num_steps, self.num_steps)
        return {name: self._code(name, x, most, generator)[:num_steps] for name in self.codes}

    def _code(self, name: str, x: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
        return self._latency(x, most) if name == "latency" else BANK[name](x, most, generator)

    def _latency(self, x: Tensor, most: int) -> Tensor:
        """Where more steps are asked for than this was made for, an image's spikes stay where they were."""
        sent = latency(x, self.num_steps) * (x > 0)
        return torch.cat([sent, x.new_zeros(max(0, most - self.num_steps), *x.shape)])

    def _generator(self, device: torch.device) -> torch.Generator:
        self.passes += self.training
        drawn = int(self.seed) * 1_000_003 + (int(self.passes) if self.training else 0)
        return torch.Generator(device).manual_seed(drawn)

    def _gains(self, x: Tensor, num_steps: int) -> Tensor:
        """The gain of each step and sample, [T, N]."""
        assert self.gain is not None
        values = (x.transpose(0, 1) if self.of_frames else x).flatten(1)
        gains = 2 * self.gain(torch.stack([values.mean(1), values.std(1, correction=0)], 1)).sigmoid().T
        last = gains[-1:].expand(max(0, num_steps - len(gains)), -1)
        return torch.cat([gains[:num_steps], last])

    def extra_repr(self) -> str:
        return f"codes={', '.join(self.codes)}, num_steps={self.num_steps}, gain={self.gain is not None}"


def check_codes(argument: str, codes: Sequence[str]) -> None:
    """Raise SpikeletError, naming the argument, for what is no set of codes of images, or of frames."""
    allowed = f"some of {', '.join(IMAGE_CODES)}, or of {', '.join(FRAME_CODES)}, each once"
    one_kind = any(set(codes) <= set(kind) for kind in (IMAGE_CODES, FRAME_CODES))
    if not codes or not one_kind or len(set(codes)) < len(codes):
        raise SpikeletError(f"{argument}: expected {allowed}, got {list(codes)}")


def _passed(code: Tensor, share: Tensor, through: Linear | None) -> Tensor:
    if through is None:
        return share * code
    if code.stride(0) == 0:  # the same at every step
        passed = through(code[0], share)
        return passed.expand(len(code), *passed.shape)
    return through(code.flatten(0, 1), share).unflatten(0, code.shape[:2])


def _gain(num_steps: int) -> nn.Sequential:
    last = nn.Linear(HIDDEN, num_steps)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), last)


def _behind(gains: Tensor, x: Tensor) -> Tensor:
    """[T, N], to broadcast with ``x`` [T, N, ...]."""
    return gains.reshape(*gains.shape, *[1] * (x.dim() - 2))
