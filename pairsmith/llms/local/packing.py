"""Fast linear layers on a CPU: weights laid out once for oneDNN's blocked matrix product.

The values are the same, and results differ by rounding alone. A pass of a few rows takes half the time, since plain
layers lay out the weights again for each product.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)


def pack(model: Any) -> None:
    """Replace the plain linear layers of a model on a CPU, in place.

    They stay as they are where oneDNN is absent, or has no product for the model's dtype on this processor.
    """
    import torch
    from torch.nn import Linear

    if not torch.backends.mkldnn.is_available():
        return
    packed_layer = _packed_layer()
    try:
        packed_layer(Linear(1, 1, dtype=model.dtype))
    except RuntimeError as error:
        log.info("weights stay as they are: %s", error)
        return
    for part in list(model.modules()):
        for name, layer in list(part.named_children()):
            if type(layer) is Linear:
                setattr(part, name, packed_layer(layer))


def _packed_layer() -> Any:
    import torch

    class Packed(torch.nn.Module):  # type: ignore[misc]
        """A linear layer whose weight only oneDNN reads."""

        _ROWS = 32  # for which oneDNN chooses the layout; it works for any number

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            self.bias = layer.bias
            self.dtype = layer.weight.dtype
            self.blocked = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().contiguous(), self._ROWS)

        @property
        def weight(self) -> torch.Tensor:
            """The weight in its plain layout: some models with states multiply it themselves."""
            return self.blocked.to_dense()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            product = torch.ops.mkldnn._linear_pointwise
            return product(rows, self.blocked, self.bias, "none", [], "")

    return Packed
