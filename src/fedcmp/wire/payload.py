"""What travels between clients and server: float32, bfloat16 or int8, and what rounding lost goes along next time.

    bfloat16    8 significant bits, rounded to nearest
    int8        blocks of B = 256 consecutive entries:  s = max |x| / 127,  code = round(x / s),  decoded = s * code
                (block-wise absmax, Dettmers et al. 2022, arXiv 2110.02861): 1 + 4 / B bytes an entry
    feedback    c_t = u_t + e_{t-1},  sent = encode(c_t),  e_t = c_t - decode(sent)
                (1-bit SGD, Seide et al. 2014; EF-SGD, Karimireddy et al. 2019, arXiv 1901.09847)
Over rounds the sum of what was decoded is the sum of the true updates less the last residual: nothing is lost, it comes
later. A client encodes its update, client minus the projector that it received, which is small and centred on zero,
rather than its projector: there the same bits would be spent on what both sides know.

On the wire an encoded set of tensors is again a flat dict of named tensors, fit for safetensors: `name` holds the codes
in the tensor's shape, `name@scales` one float32 scale a block. Their dtypes say how they are decoded. Of a symmetric
matrix that is rounded, half is sent: `name@upper` holds the entries on and above its diagonal, row by row.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedcmp.references import PAYLOADS as PAYLOADS
from fedcmp.references import Payload as Payload

Tensors = dict[str, Tensor]
BLOCK = 256  # entries that share a scale
SCALES, UPPER = "@scales", "@upper"
_LARGEST_CODE = 127
_ENTRY_BYTES: dict[Payload, int] = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Forms:
    """In which form each part of a round travels.

    What a rule sends to the clients beside the projector is float32 unless the rule says otherwise: a basis that was
    rounded has to be made orthogonal again.

    Attributes:
        update: what a client trained: its update, or the tensors themselves if all is float32.
        state: the server's tensors, whole, to the clients.
        extra: what a rule needs from the clients beside it: second moments, Gram matrices, control variates.
    """

    update: Payload
    state: Payload
    extra: Payload

    @property
    def whole(self) -> bool:
        """Whether clients send their projector as it is: only where both sides know the same one to the last bit."""
        return self.update == self.state == "float32"


def forms(payload: Payload, broadcast: Payload | None = None) -> Forms:
    """The forms of a recipe's `federation.payload` and `federation.broadcast_payload`.

    Rounding of the broadcast does not add up over the rounds: the server keeps its projector in float32 and adds
    the decoded updates to that.
    """
    if payload == "float32":
        return Forms("float32", broadcast or "float32", "float32")
    return Forms(payload, broadcast or "bfloat16", "bfloat16")


def encode(tensors: Mapping[str, Tensor], payload: Payload) -> Tensors:
    """Encode floating point tensors for the wire.

    Args:
        tensors: name -> tensor of any shape; names do not end in "@scales" or "@upper".
        payload: the form.

    Returns:
        Name -> contiguous tensor. NaN and infinity stay visible: decoded, their whole int8 block is NaN.

    Raises:
        ValueError: a tensor that is not of floating point, or a name that is reserved.
    """
    wire: Tensors = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}; only floating point tensors can be encoded")
        if name.endswith((SCALES, UPPER)):
            raise ValueError(f"{name}: names that end in {SCALES!r} or {UPPER!r} are reserved")
        wire |= _encoded(name, tensor.detach(), payload)
    return wire


def encode_symmetric(tensors: Mapping[str, Tensor], payload: Payload) -> Tensors:
    """Encode symmetric matrices (I, I) for the wire: as `encode`, but half of what is rounded anyhow.

    Raises:
        ValueError: as `encode`, or a tensor that is no square matrix.
    """
    whole = encode(tensors, payload)
    if payload == "float32":
        return whole
    wire: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 2 or tensor.shape[0] != tensor.shape[1]:
            raise ValueError(f"{name} is {tuple(tensor.shape)}; half of it can be sent of a symmetric matrix only")
        rows, columns = torch.triu_indices(*tensor.shape, device=tensor.device)
        wire |= _encoded(name + UPPER, tensor.detach()[rows, columns], payload)
    return wire


def _encoded(name: str, tensor: Tensor, payload: Payload) -> Tensors:
    if payload == "int8":
        codes, scales = _to_int8(tensor)
        return {name: codes, name + SCALES: scales}
    return {name: tensor.to(torch.bfloat16 if payload == "bfloat16" else torch.float32).contiguous()}


def decode(wire: Mapping[str, Tensor]) -> Tensors:
    """Decode what `encode` made, whatever its form.

    Returns:
        Name -> float32 tensor; one that is float32 already is not copied.

    Raises:
        ValueError: codes without their scales, scales without codes, or another number of them than blocks; half a
            matrix that is none.
    """
    tensors: Tensors = {}
    for name, tensor in wire.items():
        if name.endswith(SCALES):
            if name.removesuffix(SCALES) not in wire:
                raise ValueError(f"{name}: scales without codes")
        elif tensor.dtype == torch.int8:
            tensors[name] = _from_int8(name, tensor, wire.get(name + SCALES))
        elif tensor.is_floating_point():
            tensors[name] = tensor.to(torch.float32)
        else:
            raise ValueError(f"{name} is {tensor.dtype}: no payload has that type")
    return {name.removesuffix(UPPER): _unfolded(name, tensor) for name, tensor in tensors.items()}


def _unfolded(name: str, tensor: Tensor) -> Tensor:
    """Return a symmetric matrix of which half was sent; any other tensor as it is."""
    if not name.endswith(UPPER):
        return tensor
    size = (math.isqrt(8 * tensor.numel() + 1) - 1) // 2
    if tensor.dim() != 1 or size * (size + 1) != 2 * tensor.numel():
        raise ValueError(f"{name} is {tuple(tensor.shape)}: not the half of a symmetric matrix")
    rows, columns = torch.triu_indices(size, size, device=tensor.device)
    whole = tensor.new_empty(size, size)
    whole[rows, columns] = tensor
    whole[columns, rows] = tensor
    return whole


def encode_with_feedback(
    update: Mapping[str, Tensor], residual: Mapping[str, Tensor] | None, payload: Payload
) -> tuple[Tensors, Tensors]:
    """Encode an update together with what rounding lost of the earlier ones.

    Args:
        update: name -> what the client has to say this round.
        residual: what this function returned in the client's last round; None in its first.
        payload: the form.

    Returns:
        What is sent, and the residual to keep. An update with NaN or infinity is sent as such, to be refused, and the
        earlier residual is kept: it must not be spoiled for good.
    """
    corrected = {
        name: tensor.detach().to(torch.float32) + (residual[name] if residual else 0.0)
        for name, tensor in update.items()
    }
    wire = encode(corrected, payload)
    decoded = decode(wire)
    if not all(bool(tensor.isfinite().all()) for tensor in decoded.values()):
        return wire, dict(residual) if residual else zeros_like(corrected)
    return wire, {name: corrected[name] - decoded[name] for name in corrected}


def zeros_like(tensors: Mapping[str, Tensor]) -> Tensors:
    """A residual before any round."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensors:
    """The update, tensor by tensor, in float32."""
    return {name: tensor.detach().float() - before[name].float() for name, tensor in after.items()}


def moved(start: Mapping[str, Tensor], update: Mapping[str, Tensor]) -> Tensors:
    """A projector moved by a decoded update.

    Raises:
        ValueError: the update has other names or shapes.
    """
    if start.keys() != update.keys():
        raise ValueError(f"the update holds {', '.join(update)}; the projector {', '.join(start)}")
    for name, tensor in update.items():
        if tensor.shape != start[name].shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}; it must be {tuple(start[name].shape)}")
    return {name: tensor + update[name].to(tensor) for name, tensor in start.items()}


def payload_bytes(shapes: Mapping[str, Sequence[int]] | Iterable[Sequence[int]], payload: Payload) -> int:
    """Bytes of a set of tensors on the wire, headers not counted.

    Args:
        shapes: of the tensors, by name or not.
        payload: the form.
    """
    total = 0
    for shape in shapes.values() if isinstance(shapes, Mapping) else shapes:
        entries = math.prod(shape)
        scales = 4 * math.ceil(entries / BLOCK) if payload == "int8" else 0
        total += entries * _ENTRY_BYTES[payload] + scales
    return total


def wire_bytes(wire: Mapping[str, Tensor]) -> int:
    """Bytes of encoded tensors, headers not counted."""
    return sum(tensor.numel() * tensor.element_size() for tensor in wire.values())


def _to_int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Codes in the tensor's shape, and (blocks,) float32 scales."""
    flat = tensor.to(torch.float32).reshape(-1)
    blocks = functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1) / _LARGEST_CODE if len(blocks) else blocks.new_zeros(0)
    finite = scales.isfinite()
    divisors = torch.where(finite & (scales > 0), scales, torch.inf)  # x / inf = 0: what cannot be told is code 0
    quotients = torch.where(finite[:, None], blocks, 0.0) / divisors[:, None]
    codes = quotients.round().clamp(-_LARGEST_CODE, _LARGEST_CODE).to(torch.int8)
    return codes.view(-1)[: flat.numel()].view(tensor.shape).clone(), torch.where(finite, scales, torch.nan)


def _from_int8(name: str, codes: Tensor, scales: Tensor | None) -> Tensor:
    count = math.ceil(codes.numel() / BLOCK)
    if scales is None:
        raise ValueError(f"{name}: codes without their scales")
    if scales.shape != (count,) or not scales.is_floating_point():
        raise ValueError(f"{name}: {tuple(scales.shape)} {scales.dtype} scales; {count} blocks need ({count},) float32")
    flat = codes.reshape(-1).to(torch.float32)
    blocks = functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    decoded: Tensor = (blocks * scales.to(torch.float32)[:, None]).view(-1)[: flat.numel()].view(codes.shape)
    return decoded
