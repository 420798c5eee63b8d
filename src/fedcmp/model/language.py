"""The frozen causal LLM: loss of captions and greedy answers, given visual tokens in front.

A sequence is  [<bos>] visual tokens, separator, caption, <eos>  (LLaVA's "plain" pretraining format). Loss falls on the
caption and <eos> only, and logits are computed there only. Captions are padded on the right and attention is causal, so
no mask is needed. Shapes: B pairs, P visual tokens, T caption tokens, D text width, N all tokens with a loss.
"""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from fedcmp.errors import UserError
from fedcmp.model.compiled import CompiledBlocks
from fedcmp.model.float8 import use_float8_linears
from fedcmp.model.frozen_linear import use_frozen_linears
from fedcmp.model.locations import device_of, dtype_of, load, load_model, resolve
from fedcmp.model.precision import use_float32_attention
from fedcmp.model.row_losses import row_losses

KEY = "model.language"


class TextFormat:
    """An LLM's tokenizer, sizes and sequence format, without its weights.

    Args:
        name: "world", a folder or a hub name of a causal LM.
        separator: text between the visual tokens and the caption; None: the tokenizer's sep token if it has one, else
            a line break, as LLaVA.

    Attributes:
        name: as given; `location` is the folder or hub name behind it.
        tokenizer: of the LLM.
        end: id of the end-of-sequence token; `pad` is that of the padding, `end` where there is none.
        separator: as text; `separator_ids` are its tokens.
        start_ids: `<bos>` where the tokenizer begins a text with it, else nothing.
        width: D, of the input embeddings.
        max_positions: longest sequence the LLM was made for; None if its config does not say.

    Raises:
        UserError: a config or tokenizer that cannot be loaded, a tokenizer without an end-of-sequence token, or a
            config without a width.
    """

    def __init__(self, name: str, *, separator: str | None = None) -> None:
        self.name, self.location = name, resolve(name, "language", KEY)
        config = load(AutoConfig, self.location, KEY).get_text_config()
        width = getattr(config, "word_embed_proj_dim", None) or getattr(config, "hidden_size", None)  # OPT has both
        if width is None:
            raise UserError(
                f"{KEY} = {name!r}: the config of a {config.model_type} has no hidden_size; use a causal LM"
            )
        self.width = int(width)
        positions = getattr(config, "max_position_embeddings", None)
        self.max_positions = None if positions is None else int(positions)
        self.tokenizer: PreTrainedTokenizerFast = load(AutoTokenizer, self.location, KEY)
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{KEY} = {name!r}: its tokenizer has no end-of-sequence token; set eos_token in its files")
        self.end = int(self.tokenizer.eos_token_id)
        pad = self.tokenizer.pad_token_id
        self.pad = self.end if pad is None else int(pad)
        self.separator = separator if separator is not None else (self.tokenizer.sep_token or "\n")
        self.separator_ids: list[int] = self.tokenizer(self.separator, add_special_tokens=False)["input_ids"]
        with_special = self.tokenizer("", add_special_tokens=True)["input_ids"]
        bos = self.tokenizer.bos_token_id
        self.start_ids: list[int] = [bos] if bos is not None and with_special[:1] == [bos] else []


def check_length(text_format: TextFormat, *, num_patches: int, max_caption_tokens: int, vision_name: str) -> None:
    """Whether the longest training sequence fits the LLM.

    Args:
        text_format: of the LLM.
        num_patches: P, visual tokens of a picture.
        max_caption_tokens: longest caption, without its `<eos>`.
        vision_name: model.vision, for the error.

    Raises:
        UserError: [<bos>] P visual tokens, separator, caption and <eos> are more than the LLM has positions.
    """
    if text_format.max_positions is None:
        return
    fixed = len(text_format.start_ids) + num_patches + len(text_format.separator_ids) + 1
    room = text_format.max_positions - fixed
    if max_caption_tokens <= room:
        return
    shorter = f"set data.max_caption_tokens to {room} or less, or " if room > 0 else ""
    raise UserError(
        f"{KEY} = {text_format.name!r}: has {text_format.max_positions} positions, but {num_patches} visual tokens of "
        f"model.vision = {vision_name!r} and data.max_caption_tokens = {max_caption_tokens} need "
        f"{fixed + max_caption_tokens} with the tokens around them; {shorter}give a model.language with more positions "
        "or a model.vision with fewer patches"
    )


class LanguageModel(TextFormat):
    """Frozen LLM with its tokenizer.

    Args:
        name: as in TextFormat.
        separator: as in TextFormat.
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
        dtype: str = "float32",
        device: str = "auto",
        frozen_precision: str = "same",
        compile: bool = False,
        logit_rows: int | None = None,
    ) -> None:
        super().__init__(name, separator=separator)
        model: PreTrainedModel = load_model(AutoModelForCausalLM, self.location, KEY, dtype=dtype_of(dtype))
        self._adopt(model.to(device_of(device)), frozen_precision, compile=compile, logit_rows=logit_rows)

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
        """Around a causal LM that is in memory already, on its device and in its dtype: changed in place.

        Without a tokenizer it gives losses and greedy tokens, but reads and writes no text. The other arguments and
        errors are those of the class and of TextFormat's attributes.
        """
        self = cls.__new__(cls)
        self.name = self.location = type(model).__name__
        self.width = int(model.config.hidden_size)
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_positions = None if positions is None else int(positions)
        self.start_ids, self.separator_ids, self.end, self.pad = [*start_ids], [*separator_ids], end, pad
        self._adopt(model, frozen_precision, compile=compile, logit_rows=logit_rows)
        return self

    def _adopt(self, model: PreTrainedModel, frozen_precision: str, *, compile: bool, logit_rows: int | None) -> None:
        self.model = model.eval().requires_grad_(False)
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
        """Some LLMs cap or scale what their output layer gives: then its rows alone are not the logits."""
        with torch.no_grad():
            inputs = self.embed(torch.tensor([[self.end, self.pad]]))
            expected = self.model(inputs_embeds=inputs, use_cache=False).logits
            head = self.model.get_output_embeddings()
            hidden = self.model.base_model(inputs_embeds=inputs, use_cache=False)[0]
            plain = isinstance(head, nn.Linear) and hidden.shape[-1] == head.in_features
            if plain and torch.allclose(head(hidden), expected, rtol=1e-2, atol=1e-3):
                return
        raise UserError(
            f"model.logit_rows: the logits of {self.name!r} are not its output layer's alone (capped or scaled "
            "afterwards); leave logit_rows out"
        )

    def embed(self, ids: Tensor | Sequence[int]) -> Tensor:
        """Token ids of any shape -> their input embeddings, one more axis (D)."""
        embedded: Tensor = self.embedding(torch.as_tensor(ids, device=self.device))
        return embedded

    def inputs(self, visual_BPD: Tensor | None, ids_BT: Tensor) -> Tensor:
        """`[<bos>] visual separator ids` as embeddings; without visual tokens the LLM is blind."""
        count = len(ids_BT)
        parts = [self.embed([*self.start_ids]).expand(count, -1, -1)] if self.start_ids else []
        if visual_BPD is not None:
            parts.append(visual_BPD.to(self.device, self.dtype))
        parts += [self.embed(self.separator_ids).expand(count, -1, -1), self.embed(ids_BT)]
        return torch.cat(parts, 1)

    def caption_losses(self, visual_BPD: Tensor | None, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Loss at every caption token.

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
        inputs = self.inputs(visual_BPD, ids_BT[:, :-1])
        length = inputs.shape[1]
        targets_N = ids_BT.flatten()[counted_N]
        with self._blocks or contextlib.nullcontext():
            if self.logit_rows is not None:
                hidden_BTD = self.model.base_model(inputs_embeds=inputs, use_cache=False)[0][:, length - captions :]
                head = self.model.get_output_embeddings()
                hidden_ND = hidden_BTD.flatten(0, 1)[counted_N]
                return row_losses(hidden_ND, head.weight, head.bias, targets_N, rows=self.logit_rows)
            keep = torch.arange(length - captions, length, device=self.device)
            logits = self.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=keep).logits
        return functional.cross_entropy(logits.flatten(0, 1)[counted_N].float(), targets_N, reduction="none")

    @torch.no_grad()
    def greedy_tokens(self, visual_BPD: Tensor | None, ids_BT: Tensor, count: int) -> Tensor:
        """The most probable token at each of the last `count` positions, given all tokens before it.

        Args:
            visual_BPD: (B, P, D) visual tokens, or None for the blind LLM.
            ids_BT: (B, T) prompt and answer, all of one length.
            count: length of the answer.

        Returns:
            (B, count) ids; equal to the answer exactly where greedy decoding would write it.
        """
        inputs = self.inputs(visual_BPD, ids_BT[:, :-1])
        logits: Tensor = self.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=count).logits
        return logits.argmax(-1).cpu()

    @torch.no_grad()
    def generate(self, visual_BPD: Tensor | None, prompt_BT: Tensor, *, max_new_tokens: int) -> list[str]:
        """Greedy continuations as text, special tokens removed; prompts all of one length (0 for a caption)."""
        inputs = self.inputs(visual_BPD, prompt_BT)
        mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=self.device)
        out = self.model.generate(
            inputs_embeds=inputs,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.pad,
            eos_token_id=self.end,
        )
        return [text.strip() for text in self.tokenizer.batch_decode(out, skip_special_tokens=True)]

    def mean_embeddings(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """(B, D) mean input embedding over each row's counted tokens."""
        counted = (torch.arange(ids_BT.shape[1]) < lengths_B[:, None]).to(self.device, self.dtype)[..., None]
        return (self.embed(ids_BT) * counted).sum(1) / counted.sum(1)
