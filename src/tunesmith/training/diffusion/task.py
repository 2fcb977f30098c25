"""Pictures and captions, flow-matching loss, one transformer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.spec.events import Portion
from tunesmith.training.adapters import write_tensors
from tunesmith.training.diffusion import adapter, export
from tunesmith.training.diffusion.average import Average
from tunesmith.training.diffusion.buckets import Item
from tunesmith.training.diffusion.encoding import Encoder
from tunesmith.training.diffusion.family import Condition
from tunesmith.training.diffusion.noise import NoisePlan, fixed_noise, flow_errors, noisy, validation_shares
from tunesmith.training.diffusion.samples import Easel
from tunesmith.training.order import DataOrder, Order
from tunesmith.training.reporting import Reporter
from tunesmith.training.state import Progress
from tunesmith.training.task import Figure, Measured, MicroBatch

_VALIDATION_TIMES = 4
"""At so many noise levels each picture is scored: a single one would tell little."""

_UNAVERAGED = "unaveraged.safetensors"
"""Beside a checkpoint's averaged weights, below a folder: it is no model by itself."""


@dataclass(frozen=True)
class Example:
    """An item with what was encoded of it."""

    item: Item
    latents: str
    """Key in the cache."""

    condition: str
    """Key in the cache."""

    line: int
    """Place of the picture in its set, from 1."""


@dataclass(frozen=True, eq=False)
class Noised:
    """An example with all that is drawn for one pass; on the host."""

    latents: Tensor
    noise: Tensor
    time: Tensor
    sigma: Tensor
    condition: Condition
    tokens: int
    line: int


@dataclass(frozen=True, eq=False)
class PictureBatch:
    """One forward pass over pictures of one size."""

    latents: Tensor
    """[B, C, H, W]."""

    noise: Tensor
    """As the latents."""

    timesteps: Tensor
    """[B], up to 1000."""

    sigmas: Tensor
    """[B], shares of noise."""

    condition: Mapping[str, Tensor]
    tokens: int
    trained: int
    """Pictures."""

    lines: tuple[int, ...]
    """Places of the pictures in their set, from 1."""


@dataclass(eq=False)
class DiffusionTask:
    """A transformer and its pictures, ready for the loop."""

    model: Any
    """The transformer, with its adapter inside where one is trained."""

    encoder: Encoder
    card: export.Card
    noise: NoisePlan
    examples: Sequence[Example]
    validation: Sequence[Example]
    empty: str
    """Key of the empty caption's condition."""

    caption_dropout: float
    """Share of the pictures that are shown without their caption."""

    micro_batch_size: int
    dtype: torch.dtype
    """Of the arithmetic."""

    average: Average | None
    easel: Easel | None
    base_answer: Tensor | None = field(init=False)
    """Prediction on the probe before training, where all weights are trained: the base is gone afterwards."""

    step: int = field(default=0, init=False)
    """Optimizer steps done."""

    def __post_init__(self) -> None:
        self._probe = self._probed()
        self.base_answer = None if adapter.is_adapted(self.model) else self._answer(self.model)

    @property
    def device(self) -> torch.device:
        """Where the transformer lies."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def order(self) -> Order:
        """Each picture is a sequence, once per resolution."""
        return DataOrder(self.card.spec.optimization, len(self.examples))

    @property
    def portion(self) -> Portion:
        """How much goes through the transformer at once."""
        longest = max(example.item.tokens for example in self.examples)
        return Portion(
            micro_batch_size=self.micro_batch_size,
            token_budget=self.micro_batch_size * longest,
            recomputing=self.model.is_gradient_checkpointing,
        )

    @property
    def can_recompute(self) -> bool:
        """Whether the architecture has blocks of which only the input needs to be kept."""
        return bool(self.model._supports_gradient_checkpointing)

    def take(self, portion: Portion) -> None:
        """From now on, put no more pictures than this through the transformer."""
        assert portion.micro_batch_size is not None
        self.micro_batch_size = portion.micro_batch_size
        if portion.recomputing and not self.model.is_gradient_checkpointing:
            self.model.enable_gradient_checkpointing()

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step. All that is random is drawn here, picture by picture and on the
        host, so that the loss depends on neither the size of the passes nor the device."""
        drawn = [self._drawn(self.examples[index]) for index in sequences]
        return list(self._batches(drawn, self.micro_batch_size))

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation: the same noise every time, at levels spread over the schedule."""
        for number, example in enumerate(self.validation):
            latents, _ = self.encoder.latents(example.latents)
            condition = self.encoder.condition(example.condition)
            scored = []
            for place, share in enumerate(validation_shares(_VALIDATION_TIMES)):
                time, sigma = self.noise.at(share, example.item.tokens)
                noise = fixed_noise(latents.shape, number * _VALIDATION_TIMES + place)
                scored.append(Noised(latents, noise, time, sigma, condition, example.item.tokens, example.line))
            yield from self._batches(scored, self.micro_batch_size)

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss of one micro-batch: the sum over its pictures of the mean squared error of the flow."""
        assert isinstance(batch, PictureBatch)
        errors = flow_errors(self._flow(self.model, batch), batch.latents, batch.noise)
        loss = (self.noise.weights(batch.sigmas) * errors).sum()
        return Measured(loss, {"sigma": Figure(batch.sigmas.sum(), batch.trained)})

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Places in the set, from 1, of the pictures of these sequences."""
        return sorted({self.examples[index].line for index in sequences})

    def stepped(self, step: int) -> None:
        """Let the average follow."""
        self.step = step
        if self.average is not None:
            self.average.follow(step)

    def sample(self, progress: Progress, reporter: Reporter, poll: Callable[[], None]) -> Progress:
        """Draw the job's prompts, by the averaged weights where there are any."""
        assert self.easel is not None
        self.model.eval()
        with self._offered():
            self.easel.draw(self.model, self._arithmetic, progress.step, reporter, poll)
        return progress.model_copy(update={"sampled_step": progress.step})

    def save(self, folder: Path) -> None:
        """Write the weights that are offered, exactly; and those that the average is made of."""
        with self._offered():
            file = f"{self.card.name}_{self.step:09d}.safetensors"
            export.write_weights(self.model, self.card, folder, self.step, file)
        if self.average is not None:
            (folder / "training").mkdir()
            own = {name: parameter.detach() for name, parameter in self._trained().items()}
            write_tensors(own, folder / "training" / _UNAVERAGED)

    def load(self, folder: Path) -> None:
        """Take the weights back, and the step that they are of."""
        self.step = export.step_of(folder)
        if adapter.is_adapted(self.model):
            adapter.read_adapter(self.model, export.adapter_file(folder))
        else:
            loaded = type(self.model).from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
            self.model.load_state_dict(loaded.state_dict())
        if self.average is not None:
            self.average.restart()
            own = load_file(folder / "training" / _UNAVERAGED)
            for name, parameter in self._trained().items():
                parameter.data.copy_(own[name])

    def export(self, folder: Path) -> None:
        """Write the artifact: the adapter, or the transformer in the number format of its base. The training is over:
        the model keeps what is written."""
        if self.average is not None:
            self.average.take_over()
        if not adapter.is_adapted(self.model):
            self.model.to(self.dtype)
        export.write_weights(self.model, self.card, folder, self.step, f"{self.card.name}.safetensors")
        export.write_card(self.card, folder)

    def verify(self, folder: Path) -> float:
        """Load the artifact by diffusers and compare it with the base and with what was trained."""
        return export.verify(self.model, self.card, folder, self._answer, self.base_answer)

    def _trained(self) -> dict[str, Any]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def _offered(self) -> AbstractContextManager[None]:
        """While open, the model has the weights that users get."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _flow(self, model: Any, batch: PictureBatch) -> Tensor:
        with self._arithmetic():
            mixed = noisy(batch.latents, batch.noise, batch.sigmas)
            return self.encoder.family.predict(model, mixed, batch.timesteps, batch.condition)

    def _drawn(self, example: Example) -> Noised:
        mean, std = self.encoder.latents(example.latents)
        is_dropped = bool(torch.rand(()) < self.caption_dropout)
        time, sigma = self.noise.draw(example.item.tokens)
        latents = mean + std * torch.randn(mean.shape)
        return Noised(
            latents=latents,
            noise=torch.randn(mean.shape),
            time=time,
            sigma=sigma,
            condition=self.encoder.condition(self.empty if is_dropped else example.condition),
            tokens=example.item.tokens,
            line=example.line,
        )

    def _batches(self, drawn: Sequence[Noised], most: int) -> Iterator[PictureBatch]:
        """Passes over pictures of equal sizes, in the order in which sizes first come."""
        sizes: dict[torch.Size, list[Noised]] = {}
        for each in drawn:
            sizes.setdefault(each.latents.shape, []).append(each)
        for group in sizes.values():
            for start in range(0, len(group), most):
                yield self._batch(group[start : start + most])

    def _batch(self, group: Sequence[Noised]) -> PictureBatch:
        condition = self.encoder.family.collate([each.condition for each in group])
        return PictureBatch(
            latents=self._moved([each.latents for each in group]),
            noise=self._moved([each.noise for each in group]),
            timesteps=self._moved([each.time for each in group]),
            sigmas=self._moved([each.sigma for each in group]),
            condition={name: tensor.to(self.device, non_blocking=True) for name, tensor in condition.items()},
            tokens=sum(each.tokens for each in group),
            trained=len(group),
            lines=tuple(each.line for each in group),
        )

    def _moved(self, tensors: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(tensors))
        return stacked.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else stacked

    def _probed(self) -> PictureBatch:
        """The smallest item, half noise: what the transformers are compared on."""
        example = min(self.examples, key=lambda example: example.item.tokens)
        latents, _ = self.encoder.latents(example.latents)
        time, sigma = self.noise.at(0.5, example.item.tokens)
        noise = fixed_noise(latents.shape, 0)
        condition = self.encoder.condition(example.condition)
        return self._batch([Noised(latents, noise, time, sigma, condition, example.item.tokens, example.line)])

    @torch.no_grad()
    def _answer(self, model: Any) -> Tensor:
        model.eval()
        return self._flow(model, self._probe).float()
