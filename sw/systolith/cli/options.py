"""Options and their meaning, the same in every subcommand that has them."""

import argparse
from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError
from systolith.arch.presets import PRESETS, find_config
from systolith.arch.program import MAGIC, Program
from systolith.driver.transport import DEVICES

DEFAULT_CONFIG = "edge-16x16"
REFERENCES = ("tflm", "litert_reference", "litert_default", "onnxruntime")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        metavar="NAME|FILE.toml",
        help=f"accelerator: {', '.join(PRESETS)}, or a TOML file (default: {DEFAULT_CONFIG})",
    )


def add_reference(parser: argparse.ArgumentParser) -> None:
    """Add `--reference`."""
    parser.add_argument(
        "--reference",
        choices=REFERENCES,
        help="runtime whose rounding is reproduced (default: tflm, or onnxruntime for ONNX models)",
    )


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add `--batch`."""
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="samples that one run takes; matrix layers load their weights once (default: 1)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device",
        type=_device,
        default=DEVICES[0],
        metavar="DEVICE",
        help=f"where it runs: {', '.join(DEVICES)} (default: {DEVICES[0]})",
    )


def config_of(arguments: argparse.Namespace) -> AcceleratorConfig:
    """Return the configuration that was asked for, or the default."""
    return find_config(arguments.config or DEFAULT_CONFIG)


def is_program(path: Path) -> bool:
    """Return whether a file starts like a compiled program."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise InputError(f'File "{path}" cannot be read: {error.strerror}') from error


def load_or_compile(
    path: Path, arguments: argparse.Namespace, *, keep_tensors: bool = False
) -> Program:
    """Return the program in a file, or of the model in it, for the options given.

    Raises
    ------
    InputError
        The program reproduces another reference than asked for, or does not keep its tensors.
    ProgramError
        It was compiled for another configuration than asked for.
    """
    from systolith.api import compile_model

    if not is_program(path):
        return compile_model(
            path,
            config_of(arguments),
            reference=arguments.reference,
            keep_tensors=keep_tensors,
            batch=arguments.batch,
        )
    program = Program.load(path)
    if arguments.config is not None:
        program.check_config(find_config(arguments.config))
    if arguments.reference not in (None, program.reference):
        raise InputError(
            f'Program "{path}" reproduces {program.reference}, not {arguments.reference}; '
            f"compile the model again with --reference {arguments.reference}"
        )
    if keep_tensors and any(layer.name not in program.tensors for layer in program.layers):
        raise InputError(
            f'Program "{path}" does not keep its inner tensors; '
            f"compile the model again with --keep-tensors"
        )
    return program


def _device(text: str) -> str:
    """Return the name of a device; whether there is one is seen when it is opened."""
    kind = text.partition(":")[0]
    if kind not in {name.partition(":")[0].partition("[")[0] for name in DEVICES}:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(DEVICES)}, not {text!r}")
    return text
