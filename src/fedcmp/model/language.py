"""The frozen causal LLM: loss of captions and greedy answers, given visual tokens in front.

A sequence is that of text_format.py. Loss falls on the caption and <eos> only, and logits are computed there only.
Captions are padded on the right and attention is causal, so no mask is needed. Shapes: B pairs, P visual tokens,
T caption tokens, D text width, N all tokens with a loss.
"""

import contextlib
import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedModel

from fedcmp.errors import UserError
from fedcmp.model.compiled import CompiledBlocks
from fedcmp.model.float8 import use_float8_linears
from fedcmp.model.frozen_linear import use_frozen_linears
from fedcmp.model.half_precision import use_float32_attention
from fedcmp.model.locations import device_of, dtype_of
from fedcmp.model.prompts import INSTRUCTION
from fedcmp.model.row_losses import row_losses
from fedcmp.model.text_format import KEY, PromptFormat, TextFormat


class LanguageModel(TextFormat):
    """Frozen LLM with its tokenizer.

    Args:
        name, separator, prompt, instruction: as in TextFormat.
        dtype: of the weights and the arithmetic.
        device: "auto", "cpu", "cuda", ...
        frozen_precision: "same", or "float8" for the linear layers but the last (float8.py).
        compile: whether `caption_losses` runs the LLM's blocks through torch.compile (compiled.py).
        logit_rows: caption tokens whose logits `caption_losses` holds at once (row_losses.py); None: all.

    Raises:
        UserError: as TextFormat, or a model that cannot be loaded, or embeddings of another width than its config says;
            a model without linear layers for float8, or whose logits are more than its output layer's for logit_rows.
    """

    def __init__(
        self,
        name: str,
        *,
        separator: str | None = None,
        prompt: PromptFormat = "plain",
        instruction: str = INSTRUCTION,
        dtype: str = "float32",
        device: str = "auto",
        frozen_precision: str = "same",
        compile: bool = False,
        logit_rows: int | None = None,
    ) -> None:
        super().__init__(name, separator=separator, prompt=prompt, instruction=instruction)
        self.dtype = dtype_of(dtype)
        self._adopt(
            self.load_weights(self.dtype).to(device_of(device)),
            frozen_precision,
            compile=compile,
            logit_rows=logit_rows,
        )

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        *,
        start_ids: Sequence[int],
        separator_ids: Sequence[int],
        end: int,
        pad: int,
        frozen_precision: str = "same",
        compile: bool = False,
        logit_rows: int | None = None,
    ) -> "LanguageModel":
        """Wrap a causal LM that is in memory already, on its device and in its dtype: changed in place.

        Without a tokenizer it gives losses and greedy tokens, but reads and writes no text. The other arguments and
        errors are those of the class and of TextFormat's attributes.
        """
        self = cls.__new__(cls)
        self.name = self.location = type(model).__name__
        self.width = int(model.config.hidden_size)
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_positions = None if positions is None else int(positions)
        self.start_ids, self.separator_ids, self.end, self.pad = [*start_ids], [*separator_ids], end, pad
        self.caption_prompt_ids, self.prompt, self.instruction, self._chat = [], "plain", "", None
        self._adopt(model, frozen_precision, compile=compile, logit_rows=logit_rows)
        return self

    def _adopt(self, model: PreTrainedModel, frozen_precision: str, *, compile: bool, logit_rows: int | None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.model.generation_config = GenerationConfig()  # greedy here, and in the export: no habits of the checkpoint
        self._keeps_logits = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.device, self.dtype = model.device, model.dtype
        self.logit_rows = logit_rows
        name = self.name
        if frozen_precision == "float8" and not use_float8_linears(self.model, keep=model.get_output_embeddings()):
            raise UserError(
                f"model.frozen_precision = 'float8': {name!r} has no linear layers with sides that are multiples of "
                "16; use 'same'"
            )
        use_frozen_linears(self.model)
        use_float32_attention(self.model)
        self.embedding: nn.Embedding = self.model.get_input_embeddings()
        if self.embedding.weight.shape[1] != self.width:
            raise UserError(
                f"{KEY} = {name!r}: its embeddings are {self.embedding.weight.shape[1]} wide, its config says "
                f"{self.width}; this kind of LLM is not supported"
            )
        if logit_rows is not None:
            self._check_output_layer()
        self._blocks = CompiledBlocks(self.model, self.device) if compile else None

    def _check_output_layer(self) -> None:
        """Refuse an LLM that caps or scales what its output layer gives: then its rows alone are not the logits."""
        with torch.no_grad():
            inputs = self.embed(torch.tensor([[self.end, self.pad]]))
            expected = self.model(inputs_embeds=inputs, use_cache=False).logits
            head = self.model.get_output_embeddings()
            hidden = self.model.base_model(inputs_embeds=inputs, use_cache=False)[0]
            plain = isinstance(head, nn.Linear) and hidden.shape[-1] == head.in_features
            # a cap changes nothing while logits are small, as these are
            capped = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None) is not None
            if plain and not capped and torch.allclose(head(hidden), expected, rtol=1e-2, atol=1e-3):
                return
        raise UserError(
            f"model.logit_rows: the logits of {self.name!r} are not its output layer's alone (capped or scaled "
            "afterwards); leave logit_rows out"
        )

    def embed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Turn token ids of any shape into their input embeddings, one more axis (D)."""
        embedded: Tensor = self.embedding(torch.as_tensor(ids, device=self.device))
        return embedded

    def inputs(self, visual_BPD: Tensor | None, ids_BT: Tensor) -> Tensor:
        """Return `[<bos>] visual separator ids` as embeddings; without visual tokens the LLM is blind."""
        count = len(ids_BT)
        parts = [self.embed([*self.start_ids]).expand(count, -1, -1)] if self.start_ids else []
        if visual_BPD is not None:
            parts.append(visual_BPD.to(self.device, self.dtype))
        parts += [self.embed(self.separator_ids).expand(count, -1, -1), self.embed(ids_BT)]
        return torch.cat(parts, 1)

    def after_caption_prompt(self, ids_BT: Tensor) -> Tensor:
        """Return (B, T) caption ids with the caption's prompt in front, if it has one."""
        if not self.caption_prompt_ids:
            return ids_BT
        prompt = torch.tensor(self.caption_prompt_ids, dtype=torch.long, device=ids_BT.device)
        return torch.cat([prompt.expand(len(ids_BT), -1), ids_BT], 1)

    def caption_losses(self, visual_BPD: Tensor | None, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the loss at every caption token.

        Args:
            visual_BPD: (B, P, D) visual tokens, or None for the blind LLM.
            ids_BT: (B, T) caption ids with their `<eos>`, padded on the right.
            lengths_B: (B,) how many of them count, at least 1.

        Returns:
            (N,) -log p of each counted token, row by row; N = lengths_B.sum(). Its mean is the training loss, the mean
            over the batch's tokens, as transformers and LLaVA take it.
        """
        captions = ids_BT.shape[1]
        # counted where the lengths are: a mask on a GPU would make the CPU wait for its sum
        counted_N = (torch.arange(captions) < lengths_B.cpu()[:, None]).flatten().nonzero()[:, 0].to(self.device)
        ids_BT = ids_BT.to(self.device, non_blocking=True)
        inputs = self.inputs(visual_BPD, self.after_caption_prompt(ids_BT[:, :-1]))
        length = inputs.shape[1]
        targets_N = ids_BT.flatten()[counted_N]
        with self._blocks or contextlib.nullcontext():
            if self.logit_rows is not None:
                hidden_BTD = self.model.base_model(inputs_embeds=inputs, use_cache=False)[0][:, length - captions :]
                head = self.model.get_output_embeddings()
                hidden_ND = hidden_BTD.flatten(0, 1)[counted_N]
                return row_losses(hidden_ND, head.weight, head.bias, targets_N, rows=self.logit_rows)
            keep = torch.arange(length - captions, length, device=self.device)
            logits = self.logits(inputs, keep)
        return functional.cross_entropy(logits.flatten(0, 1)[counted_N].float(), targets_N, reduction="none")

    @torch.no_grad()
    def greedy_tokens(self, visual_BPD: Tensor | None, ids_BT: Tensor, count: int) -> Tensor:
        """Return the most probable token at each of the last `count` positions, given all tokens before it.

        Args:
            visual_BPD: (B, P, D) visual tokens, or None for the blind LLM.
            ids_BT: (B, T) prompt and answer, all of one length.
            count: length of the answer.

        Returns:
            (B, count) ids; equal to the answer exactly where greedy decoding would write it.
        """
        inputs = self.inputs(visual_BPD, ids_BT[:, :-1])
        return self.logits(inputs, count).argmax(-1).cpu()

    def logits(self, inputs_BTD: Tensor, keep: int | Tensor) -> Tensor:
        """Return logits at the last `keep` positions, or at those given, cut if the model gives all."""
        if self._keeps_logits:
            kept: Tensor = self.model(inputs_embeds=inputs_BTD, use_cache=False, logits_to_keep=keep).logits
            return kept
        every: Tensor = self.model(inputs_embeds=inputs_BTD, use_cache=False).logits
        return every[:, -keep:] if isinstance(keep, int) else every[:, keep]

    @torch.no_grad()
    def generate(self, visual_BPD: Tensor | None, prompt_BT: Tensor, *, max_new_tokens: int) -> list[str]:
        """Return greedy continuations as text, special tokens removed; prompts all of one length (0 for a caption)."""
        out = self.generated_ids(visual_BPD, prompt_BT, max_new_tokens=max_new_tokens)
        return [text.strip() for text in self.tokenizer.batch_decode(out, skip_special_tokens=True)]

    @torch.no_grad()
    def generated_ids(self, visual_BPD: Tensor | None, prompt_BT: Tensor, *, max_new_tokens: int) -> Tensor:
        """Return (B, N) ids of greedy continuations with their end token; where one ends earlier, padded."""
        inputs = self.inputs(visual_BPD, prompt_BT)
        mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=self.device)
        out: Tensor = self.model.generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.pad,
            eos_token_id=self.end,
        )
        return out

    def mean_embeddings(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return (B, D) mean input embedding over each row's counted tokens."""
        counted = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).to(self.device, self.dtype)[..., None]
        return (self.embed(ids_BT) * counted).sum(1) / counted.sum(1)
