"""Training on Lightning, which takes seconds to import and so is imported only when training starts."""

from spikelet.training.checkpoint import load_network
from spikelet.training.fit import fit, quiet_lightning
from spikelet.training.settings import COSTS, TrainSettings

__all__ = ["COSTS", "TrainSettings", "fit", "load_network", "quiet_lightning"]
