"""Training on Lightning, which takes seconds to import and so is imported only when training starts."""

from spikelet.training.checkpoint import load_network
from spikelet.training.fit import fit
from spikelet.training.settings import TrainSettings

__all__ = ["TrainSettings", "fit", "load_network"]
