"""Trains a small model on an arm's pairs by DPO.

TRL's DPOTrainer (https://arxiv.org/abs/2305.18290) does the training. The extra `train` brings it; it is imported here
inside functions alone, as torch is.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local.chat_tokens import encode
from pairsmith.llms.local.named_weights import load_revision, located
from pairsmith.llms.local.weights import device_for, free_unused_memory, load_whole
from pairsmith.protocol import BY_CONTENT, Message
from pairsmith.text.templating import without_system
from pairsmith.worth.arms import Arm, Chat, Pair, Settings
from pairsmith.worth.questions import Question
from pairsmith.worth.reading import Tokens, log_probs, reads_together

LIBRARIES = ("torch", "transformers", "trl")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # TRL's columns for the untrained model's log-probabilities
Reference = Mapping[str, Sequence[float]]  # pair's name -> log-probabilities of its answers, in nats
Tell = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


def require_extra() -> None:
    """Raise ConfigError where the libraries are absent, with the command that installs them."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"prove needs the extra: pip install 'pairsmith[train]' ({error})") from error


class Lab:
    """A model to be trained, by its name as recipes have it: a hub id, one of the local store, or a folder.

    Raises ConfigError where the extra `train` or a chat template is absent, ModelNotFound where the model cannot be
    read.
    """

    def __init__(self, model: str) -> None:
        require_extra()
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        found = located(model, None)
        self.model, self.path = model, found.path
        self.revision, self.named = load_revision(found.path, found.revision), found.revision
        self.device = device_for("auto")
        self._together: bool | None = None
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(self.path, revision=self.revision, padding_side="left")
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"--model {model}: cannot be loaded: {str(error).splitlines()[0]}") from error
        if self.tokenizer.chat_template is None:
            raise ConfigError(f"--model {model}: has no chat template; take an instruct model")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @cached_property
    def context(self) -> int:
        """Tokens that the model can read at most."""
        from transformers import AutoConfig

        config: Any = AutoConfig.from_pretrained(self.path, revision=self.revision)
        return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def made_by(self) -> dict[str, str]:
        """What decides an arm's result beside its data: the weights, the libraries, the kind of device."""
        libraries = {name: version(name) for name in LIBRARIES}
        weights = self.named if self.named and self.named.startswith(BY_CONTENT) else f"{self.model}@{self.named}"
        return {"model": weights, "device": self.device.type, **libraries}

    def tokens_of(self, pair: Pair) -> Tokens:
        """A pair as tokens, divided where its sides part from the prompt alone, as TRL divides it."""
        prompt = self._chat(pair.prompt)
        asked = encode(self.tokenizer, prompt)
        sides = [encode(self.tokenizer, [*prompt, *side], answered=True) for side in (pair.chosen, pair.rejected)]
        common = min(_common(asked, side) for side in sides)
        return Tokens(asked[:common], sides[0][common:], sides[1][common:])

    def question_tokens(self, question: Question) -> list[int]:
        return encode(self.tokenizer, question.chat)

    def load(self) -> Any:
        """The untrained model, on the device."""
        from transformers import AutoModelForCausalLM

        try:
            what = "language model"
            model = load_whole(AutoModelForCausalLM, self.path, what, revision=self.revision, dtype="float32")
        except (OSError, ValueError) as error:
            raise ModelNotFound(f"--model {self.model}: cannot be loaded: {str(error).splitlines()[0]}") from error
        return model.to(self.device).eval()

    def together(self, model: Any, some: Sequence[Tokens]) -> bool:
        """Whether this model reads both answers of a pair in one row; found out once, by the longest of some pairs."""
        if self._together is None:
            self._together = reads_together(model, max(some, key=lambda tokens: tokens.longest))
        return self._together

    def low_precision(self) -> Any:
        """The context in which a GPU reckons in bfloat16, as in training; elsewhere it changes nothing."""
        import torch

        return torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda")

    def trained(self, arm: Arm, settings: Settings, reference: Reference, tell: Tell) -> Any:
        """The model after a training on an arm's pairs. `reference`: what the untrained one gives for each of them."""
        import datasets
        from transformers import PrinterCallback

        model = self.load()
        rows = [
            {"prompt": self._chat(pair.prompt), "chosen": list(pair.chosen), "rejected": list(pair.rejected)}
            | dict(zip(REFERENCE, reference[pair.name], strict=True))
            for pair in arm.pairs
        ]
        together = self.together(model, [self.tokens_of(pair) for pair in arm.pairs])
        datasets.disable_progress_bars()
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # among libraries: names that are going to change
            trainer = dpo_trainer(together)(
                model,
                args=how(settings, arm.seed, self.device.type, scratch),
                train_dataset=datasets.Dataset.from_list(rows),
                processing_class=self.tokenizer,
                data_collator=_one_pair,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(_told(tell, len(rows) * settings.epochs))
            tell("training", 0, len(rows) * settings.epochs)
            trainer.train()
        del trainer
        free_unused_memory(self.device)
        self.tokenizer.padding_side = "left"
        return model.eval()

    def _chat(self, prompt: Chat) -> list[Message]:
        """A prompt as this model's template takes it: the system prompt within the first turn where it knows none."""
        from jinja2 import TemplateError

        try:
            self.tokenizer.apply_chat_template(list(prompt), tokenize=False)
        except TemplateError:
            return without_system(prompt)
        return list(prompt)


def how(settings: Settings, seed: int, device: str, scratch: str) -> Any:
    """TRL's settings of a training. A step's pairs come one by one, which fills a processor as well as more would."""
    import trl

    return trl.DPOConfig(
        output_dir=scratch, seed=seed, data_seed=seed, beta=settings.beta, max_length=settings.tokens,
        learning_rate=settings.learning_rate, num_train_epochs=settings.epochs, report_to=[],
        per_device_train_batch_size=1, gradient_accumulation_steps=settings.batch, precompute_ref_log_probs=True,
        logging_strategy="no", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
        bf16=device == "cuda", use_cpu=device == "cpu", dataloader_pin_memory=False,
    )  # fmt: skip


def dpo_trainer(together: bool) -> Any:
    """TRL's trainer where the untrained model's log-probabilities are known, and each pair is read in one pass.

    TRL's own reads the prompt with each answer, fills rows up, makes the scores of all words for prompts and padding
    too, and makes them again for the gradients. The loss is the same.
    """
    import torch
    import trl

    class KnownReference(trl.DPOTrainer):  # type: ignore[misc, unused-ignore]
        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            tokens = Tokens(inputs["prompt_ids"], inputs["chosen_ids"], inputs["rejected_ids"])
            given = log_probs(model, tokens, together)
            was = torch.tensor([inputs[name] for name in REFERENCE], device=given.device)
            chosen, rejected = given - was
            return -torch.nn.functional.logsigmoid(self.beta * (chosen - rejected))

    return KnownReference


def _one_pair(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of one pair."""
    (row,) = rows
    return row


def _told(tell: Tell, pairs: int) -> Any:
    """TRL's callback that tells how many pairs were trained on."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            tell("training", round(pairs * state.global_step / state.max_steps), pairs)

    return Told()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginnings."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
