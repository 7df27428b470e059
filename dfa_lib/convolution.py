"""Convolutions as dense matrices with zeros and ties, so that every feedback rule works on them unchanged.

A convolution without padding, of an image of c channels by kernels K of k x k, one for each channel o of the result, is a linear
map of the flattened image (channel, row, column), and so a matrix:

    W[(o, y, x), (i, v, u)] = K[o, i, v - stride y, u - stride x]    inside the kernel, and 0 elsewhere.

The gradient of K is the dense gradient summed over the places of each number: that is all that `optim.Updater` does differently.
A step therefore costs what a dense layer of these widths costs. Chapter 12_bottleneck uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from .errors import DfaLibError


@dataclass(frozen=True, eq=False)
class Ties:
    """Where in a layer's flattened weights and biases each number of its kernels stands."""

    fan_in: int
    fan_out: int
    weights: Int64[Tensor, "numbers places"]  #: `fan_in` numbers a kernel, in the order of torch's (out, in, row, column)
    biases: Int64[Tensor, "kernels places"]

    def to(self, device: torch.device) -> Ties:
        """The same on a device."""
        return Ties(self.fan_in, self.fan_out, self.weights.to(device), self.biases.to(device))


def spread(numbers: Tensor, places: Int64[Tensor, "numbers places"], into: Tensor) -> None:
    """Put each of the numbers (..., numbers) in all of its places in the last dimension of `into`."""
    into[..., places] = numbers.unsqueeze(-1)


def make_ties(
    image: tuple[int, int, int], convolutions: Sequence[tuple[int, ...]], hidden: Sequence[int], tied: bool = True
) -> dict[int, Ties]:
    """By layer, from 1, the ties of convolutions (channels, kernel, stride) on an image (channels, height, width). Without `tied`
    every place has a kernel of its own.

    Raises `DfaLibError` for a kernel that does not fit into its image, and for a hidden width that is not the convolution's.
    """
    ties = {}
    for layer, (channels, kernel, stride) in enumerate(convolutions, 1):
        if kernel > min(image[1:]):
            raise DfaLibError(f"hidden layer {layer}: a kernel of {kernel} x {kernel} does not fit into {image[1]} x {image[2]} pixels")
        pixels = torch.arange(image[0] * image[1] * image[2])
        windows = pixels.view(image).unfold(1, kernel, stride).unfold(2, kernel, stride).permute(1, 2, 0, 3, 4)
        made = (channels, windows.shape[0], windows.shape[1])
        reads = windows.flatten(2).flatten(0, 1)  # (places, fan-in)
        units = torch.arange(channels * len(reads)).view(channels, -1)
        if hidden[layer - 1] != units.numel():
            raise DfaLibError(f"hidden layer {layer}: this convolution has {made[0]} x {made[1]} x {made[2]} = {units.numel()} units; "
                              f"got a width of {hidden[layer - 1]}")  # fmt: skip
        weights = units.unsqueeze(-1) * len(pixels) + reads  # (channels, places, fan-in)
        if tied:
            weights, biases = weights.transpose(1, 2).flatten(0, 1), units
        else:
            weights, biases = weights.reshape(-1, 1), units.view(-1, 1)
        ties[layer] = Ties(reads.shape[1], channels * kernel * kernel, weights, biases)
        image = made
    return ties
