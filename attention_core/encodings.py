"""How a Transformer is told where a token stands. Attention alone sees a set: it compares vectors, not places.

Sinusoidal and learned positions are vectors added to the tokens' own; rotary positions turn queries and keys; ALiBi
takes something off each score for every step of distance. Pure mathematics on positions: knows nothing of a model.
"""

import torch
from torch import Tensor, nn

SINUSOIDAL_BASE = 10_000.0


def sinusoidal_at(positions: Tensor, size: int) -> Tensor:
    """positions (…) → (…, size) float32, size even: PE(p, 2i) = sin(p / 10000^(2i / size)), PE(p, 2i + 1) = cos(the
    same); Vaswani et al. 2017, section 3.5. Computed in float64: the fastest pair turns by a radian a position."""
    if size <= 0 or size % 2:
        raise ValueError(f"sinusoidal positions come in pairs of sine and cosine: {size} is no even size")
    even = torch.arange(0, size, 2, device=positions.device, dtype=torch.float64)  # (size / 2,) the 2i
    angle = positions[..., None].double() / SINUSOIDAL_BASE ** (even / size)  # (…, size / 2) radians
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2).float()  # (…, size) sin, cos, sin, cos …


def sinusoidal(positions: int, size: int) -> Tensor:
    """(positions, size) float32: the vector that is added to the token at each of the positions 0, 1, …"""
    return sinusoidal_at(torch.arange(positions), size)


def rotary_frequencies(head_dim: int, theta: float, device: torch.device | None = None) -> Tensor:
    """(head_dim / 2,) float32: by how many radians each pair is turned at every step, theta^(−2i / head_dim) (Su et al.
    2021, eq. 15)."""
    pair = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32)  # (head_dim / 2,) the 2i
    return theta ** (-pair / head_dim)


def rope_angles(positions: int, head_dim: int, theta: float) -> Tensor:
    """(positions, head_dim / 2) float32, radians: how far each pair is turned at the positions 0, 1, …"""
    return torch.arange(positions)[:, None].float() * rotary_frequencies(head_dim, theta)


def rotate_half(x: Tensor) -> Tensor:
    """(…, head_dim) → (…, head_dim): each pair (x_i, x_{i + head_dim/2}) turned by 90 degrees."""
    first, second = x.chunk(2, dim=-1)  # 2 × (…, head_dim / 2)
    return torch.cat((-second, first), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (…, tokens, head_dim), cos and sin of its angles → the same, each pair turned by its angle (Su et al. 2021,
    eq. 34; the pairs are i and i + head_dim/2, where the paper has neighbours)."""
    return x * cos + rotate_half(x) * sin


class RotaryPositions(nn.Module):
    """Rotary position embedding: pair i of a vector at position p is turned by the angle p · theta^(−2i / head_dim).

    A query at position p and a key at position s then meet at the angle of p − s: their dot product depends on the
    distance alone (Su et al. 2021, "RoFormer", eq. 15 and 34).
    """

    def __init__(self, head_dim: int, theta: float):
        super().__init__()
        self.head_dim, self.theta = head_dim, theta

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """positions (batch, tokens) → cos, sin, each (batch, 1, tokens, head_dim)."""
        frequency = rotary_frequencies(self.head_dim, self.theta, positions.device)
        angle = positions[..., None].float() * frequency  # (batch, tokens, head_dim / 2)
        angle = torch.cat((angle, angle), dim=-1)[:, None]  # (batch, 1, tokens, head_dim)
        return angle.cos().to(dtype), angle.sin().to(dtype)


def alibi_slopes(heads: int) -> Tensor:
    """(heads,) float32: what each head takes off a score for every step of distance; Press et al. 2022, section 3.

    For a power of two the geometric series 2^(−8/heads), 2^(−16/heads), …, 2^(−8); else that of the power of two below,
    and after it every other slope of the power of two above, as in the authors' code.
    """
    if heads < 1:
        raise ValueError(f"there are no slopes for {heads} heads")
    below = 1 << (heads.bit_length() - 1)  # the power of two at or below
    exponents = [8 * h / below for h in range(1, below + 1)]
    exponents += [8 * h / (2 * below) for h in range(1, 2 * below + 1, 2)][: heads - below]
    return 2.0 ** -torch.tensor(exponents)


def alibi_biases(slopes: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """slopes (heads,), queries (query tokens,) and keys (key tokens,) their positions → (heads, query tokens, key
    tokens): −slope · distance, added to the scores before the softmax (Press et al. 2022, section 3). To keys further
    on, which an encoder sees too, the distance counts alike."""
    distance = (queries[:, None] - keys).abs().to(slopes.dtype)  # (query tokens, key tokens)
    return -slopes[:, None, None] * distance
