"""Which conversions there are; no library is imported, so that help and mistakes are answered at once."""

from __future__ import annotations

from dataclasses import dataclass

from mgie_lit.errors import ConfigError

CHOICES = {"dtype": "half|float", "weights": "ema|raw"}  # values of options that are no folders


@dataclass(frozen=True)
class Combination:
    """One conversion.

    Args:
        source: Value of ``--from``.
        target: Value of ``--to``.
        gives: What is in DEST afterwards.
        needs: Options that must be given, without dashes.
        takes: Options that may be given.
    """

    source: str
    target: str
    gives: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The flags as they are typed."""
        needed = "".join(f" --{option} DIR" for option in self.needs)
        taken = "".join(f" [--{option} {CHOICES.get(option, 'DIR')}]" for option in self.takes)
        return f"--from {self.source} --to {self.target}{needed}{taken}"


COMBINATIONS = (
    Combination("apple", "export", "a whole pipeline", ("llava", "diffusion"), ("vision", "metrics")),
    Combination("llava", "export", "mllm/, tokenizer/, image_processor/", (), ("vision",)),
    Combination("delta", "export", "the same, of base plus delta", ("base",), ("vision",)),
    Combination("sd15", "export", "autoencoder/, scheduler/, unet/ widened to take the source image, too"),
    Combination("sd15", "diffusers", "the pipeline folder with the UNet widened"),
    Combination("instruct-pix2pix", "export", "autoencoder/, scheduler/, unet/, text_encoder/, text_tokenizer/"),
    Combination("run", "export", "a whole pipeline, of a run directory or .ckpt", (), ("weights", "metrics")),
    Combination(
        "run", "apple", "mllm.pt and unet.pt, of a run directory, .ckpt or export folder", (), ("dtype", "weights")
    ),
    Combination(
        "run", "diffusers", "the UNet's folder, of a run directory, .ckpt or any export folder", (), ("weights",)
    ),
)
SOURCES = tuple(dict.fromkeys(combination.source for combination in COMBINATIONS))
TARGETS = tuple(dict.fromkeys(combination.target for combination in COMBINATIONS))
OPTIONS = tuple(
    dict.fromkeys(option for combination in COMBINATIONS for option in combination.needs + combination.takes)
)


def find_combination(source: str, target: str, given: set[str]) -> Combination:
    """The conversion that was asked for.

    Args:
        source: Value of ``--from``.
        target: Value of ``--to``.
        given: Names of the options that were given.

    Returns:
        The combination.

    Raises:
        ConfigError: There is no such conversion, an option is missing, or one has no effect.
    """
    combination = next((one for one in COMBINATIONS if (one.source, one.target) == (source, target)), None)
    if combination is None:
        raise ConfigError(
            f"--from {source} --to {target}: there is no such conversion; expected one of\n"
            + "\n".join(map(str, COMBINATIONS))
        )
    missing = [option for option in combination.needs if option not in given]
    extra = sorted(given - {*combination.needs, *combination.takes})
    faults = [f"expected --{option} DIR as well" for option in missing]
    faults += [f"--{option} has no effect here; leave it out" for option in extra]
    if faults:
        raise ConfigError(f"--from {source} --to {target}: {'; '.join(faults)}. The whole is: {combination}")
    return combination
