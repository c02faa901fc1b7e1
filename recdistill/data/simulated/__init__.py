"""A simulated shop with a known truth: `simulate` makes its records.

Example:
    >>> dataset, truth = simulate(SimulatorSettings(impressions=20), seed=0)
    >>> len(dataset.impressions)
    20
"""

from recdistill.data.simulated.settings import SimulatorSettings
from recdistill.data.simulated.simulator import simulate

__all__ = ["SimulatorSettings", "simulate"]
