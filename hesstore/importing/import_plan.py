"""The store that a set of files becomes: its config, grid points, parameters and classes.

Planning reads the tables of losses and accuracies and the beginning of a few other files, so that most errors are found
before a store is created.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hesstore.config import SweepConfig
from hesstore.errors import ImportFilesError
from hesstore.importing import readers
from hesstore.importing.account import Account, account_of
from hesstore.importing.added_terms import choose_term
from hesstore.importing.sources import KINDS
from hesstore.importing.text_lines import count_decimals, read_lines
from hesstore.problem.state_dicts import read_state_dict, shapes_from_sizes, shapes_of
from hesstore.store.import_origin import ORIGIN, VARIABLE_OF, Origin
from hesstore.store.schema import Point, Run, Status, StoreSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from hesstore.importing.accuracy_tables import AccuracyRow
    from hesstore.importing.added_terms import AddedTerm
    from hesstore.importing.file_index import FileIndex
    from hesstore.problem.state_dicts import Shapes, StateDict

TABLE_VARIABLES = ("loss", "penalty", "accuracy", "class_accuracy", "weights_norm", "distance")
"""The variables that are read from the tables of losses and accuracies."""

_PARAMETER = re.compile(r"weight|bias")
"""What the last part of the name of a parameter contains, unless somebody chose the name."""

_COMPUTES = re.compile("_(mask|u|v)$")
"""The end of the name of a buffer by which ``torch.nn.utils`` computes a weight from the parameter ``*_orig``.

``prune`` has a mask, and ``spectral_norm`` two vectors.
"""

_CLASSES = 10
"""The number of classes if no file shows it: the digits."""


@dataclass(frozen=True)
class ImportPlan:
    """The store that a set of files becomes.

    Attributes
    ----------
    index : FileIndex
        The files by run ID and λ.
    settings : mapping
        The settings that the user gave.
    recompute : bool
        Whether the results of grid points with weights are computed again from the weights.
    reg_loss : str or None
        What ``Train_Reg_Loss`` adds to ``Train_Loss``, if the user said it: see
        :data:`hesstore.exporting.original_csv.REG_LOSSES`.
    constants : mapping of str to array, optional
        The buffers of the network, if it is known.
    network : tuple of str
        The names of the parameters if the network is known: they decide which prefixes of the names in the weight
        files belong to the network.
    """

    index: FileIndex
    settings: Mapping[str, Any]
    recompute: bool
    reg_loss: str | None = None
    network: tuple[str, ...] = ()
    constants: Mapping[str, NDArray[Any]] | None = None

    # -- the grid points --------------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the store."""
        return tuple(Run(index, *run) for index, run in enumerate(self.config.runs()))

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The grid points that have at least one file, by run ID and λ in ascending order."""
        position = {l2: index for index, l2 in enumerate(self.config.l2)}
        return tuple(Point(self.runs[run], position[l2], l2) for run, l2 in self.index.keys)

    def path(self, kind: str, point: Point) -> Path | None:
        """The file of one kind (any but ``accuracy``) of a grid point, if it has one."""
        return self.index.paths[kind].get((point.run.id, point.value))

    def row(self, point: Point) -> AccuracyRow | None:
        """The losses and accuracies of a grid point, if a table has them."""
        return self.index.rows.get((point.run.id, point.value))

    def is_recomputed(self, point: Point) -> bool:
        """Whether the results of a grid point are computed again from its weights."""
        return self.recompute and self.path("weights", point) is not None

    def status(self, point: Point) -> Status:
        """The status of a grid point after its files are read: fitted if its analysis is still to be computed."""
        return Status.FITTED if self.is_recomputed(point) and self.config.k else Status.COMPLETE

    @property
    def _recomputes_all(self) -> bool:
        return self.recompute and all(self.index.has("weights", key) for key in self.index.keys)

    # -- the config -------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> SweepConfig:
        """The config of the manifest, or else the defaults, with the user's settings; grid, runs and k fit the files.

        Raises
        ------
        ImportFilesError
            If the user's settings contradict the files.
        """
        base = self.index.manifest_config.to_mapping() if self.index.manifest_config else {}
        values = {**base, **{key: value for key, value in self.settings.items() if key != "l2"}}
        values["l2"] = sorted({*(l2 for _, l2 in self.index.keys), *self.index.manifest_l2})
        if not base and "seeds" not in self.settings:
            values["seeds"] = self._default_seeds(str(values.get("direction", "up")))
        if not base and "penalty" not in self.settings:
            values |= self._infer_penalty()
        config = SweepConfig.from_mapping({**values, **self._choose_operator(), **self._choose_k()})
        largest, count = self.index.sources.runs[-1], len(config.runs())
        if largest >= count:
            raise ImportFilesError(
                f"run ID {largest} has files, but seeds and direction make only {count} runs: give more seeds"
            )
        return config

    def _default_seeds(self, direction: str) -> list[int]:
        """One seed per run: the numbers in the names of the tables if all runs have one; else nothing is known."""
        count = self.index.sources.runs[-1] + 1
        numbers = [self.index.sources.numbers.get(run) for run in range(count)]
        known = [number for number in numbers if number is not None]
        if direction != "both" and len(set(known)) == count:
            return known
        return list(range(-(-count // 2) if direction == "both" else count))

    def _infer_penalty(self) -> dict[str, str]:
        """The form of the penalty where the tables show it; nothing if they do not.

        That ``Train_Reg_Loss`` adds λ‖θ‖² shows nothing: this is its definition for both forms. A penalty that is
        centred is part of the loss itself in the original script, and (λ/2)‖θ‖² is only written for the form ``half``.
        """
        for term in self.index.measured_terms.values():
            if term is not None and term.scale == 0.5:
                return {"penalty": "half"}
            if term is not None and term.scale == 1 and term.is_centred:
                return {"penalty": "full"}
        return {}

    def _choose_operator(self) -> dict[str, str]:
        """The setting operator: the matrix that the names of the files with eigenpairs say."""
        files = [path for kind in ("eigenvalues", "eigenvectors") for path in self.index.paths[kind].values()]
        first = {"ggn" if path.name.startswith("GGN-") else "hessian": path for path in files}
        if len(first) > 1:
            raise ImportFilesError(
                f"{first['ggn']}, {first['hessian']}: eigenpairs of two matrices: import the files of each into a store"
            )
        if not first:
            return {}
        ((operator, path),) = first.items()
        if self.settings.get("operator", operator) != operator:
            given = self.settings["operator"]
            raise ImportFilesError(
                f"operator: {given} was given, but {path} has eigenpairs of {operator}: leave it out"
            )
        return {"operator": operator}

    def _choose_k(self) -> dict[str, int]:
        """The setting k: the number of eigenpairs in the files, unless all spectra are computed again."""
        if not self.modes:
            return {} if self.recompute else {"k": 1}
        if "k" in self.settings:
            if self._recomputes_all:
                return {}
            if SweepConfig.from_mapping({"k": self.settings["k"]}).k != self.modes:
                raise ImportFilesError(
                    f"k: {self.settings['k']} was given, but the files have {self.modes} eigenpairs: leave it out"
                )
        return {"k": self.modes}

    @cached_property
    def modes(self) -> int:
        """The number of eigenpairs in the first file with eigenvalues or eigenvectors; 0 without such files."""
        if files := self.index.paths["eigenvalues"]:
            return len(readers.read_eigenvalues(_first(files)))
        if files := self.index.paths["eigenvectors"]:
            return sum(1 for _ in read_lines(_first(files)))
        return 0

    @cached_property
    def added_terms(self) -> dict[int, AddedTerm]:
        """What ``Train_Reg_Loss`` adds to ``Train_Loss`` in the table of each run that has these columns."""
        scale, index = self.config.penalty_scale, self.index
        return {
            run: choose_term(
                path,
                index.measured_terms[run],
                scale,
                given=self.reg_loss,
                manifest=index.manifest_reg_loss(path),
            )
            for run, path in index.sources.tables.items()
            if any(math.isfinite(row.added) for row in index.tables[run].rows.values())
        }

    def penalty_of(self, point: Point) -> float:
        """The penalty of the objective, c·λ‖θ‖², from the table of a grid point; NaN if it does not show it."""
        row, term = self.row(point), self.added_terms.get(point.run.id)
        # Both factors are 1/2 or 1, so that there is no rounding error.
        return math.nan if row is None or term is None else row.added / term.scale * self.config.penalty_scale

    @cached_property
    def distance(self) -> str:
        """The column of the tables with distances to a reference; empty if they have none.

        Raises
        ------
        ImportFilesError
            If the columns of several tables differ.
        """
        found = {table.distance: run for run, table in self.index.tables.items() if table.distance}
        if len(found) > 1:
            (first, run), (second, other), *_ = found.items()
            tables = self.index.sources.tables
            raise ImportFilesError(
                f"{tables[other]}: has the distances {second}, but {tables[run]} has {first}: import each alone, "
                "because the distances of a store have one reference"
            )
        return next(iter(found), "")

    # -- the network ------------------------------------------------------------------------------------------

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of the parameters: from the manifest, the first weights, or the sizes in the first gradient.

        Without such files, all parameters form one vector, with the length of an eigenvector; its length is 1 if no
        file has vectors.
        """
        header = self.index.sources.header
        if header is not None and "parameters" in header.get("identity", {}):
            return {name: tuple(shape) for name, shape in header["identity"]["parameters"]}
        if files := self.index.paths["weights"]:
            shapes = shapes_of(self._first_weights.arrays)
            self._check_names(shapes)
            return shapes
        if files := self.index.paths["gradients"]:
            gradients = readers.read_gradients(_first(files))
            return shapes_from_sizes({name: len(values) for name, values in gradients.items()})
        if files := self.index.paths["eigenvectors"]:
            return {"parameters": (len(next(readers.read_eigenvectors(_first(files)))),)}
        return {"parameters": (1,)}

    @cached_property
    def statistics(self) -> dict[str, NDArray[np.float32]]:
        """The running statistics of batch norm that all weights come with, from the first file."""
        return self._first_weights.statistics if self.index.paths["weights"] else {}

    @cached_property
    def buffers(self) -> Mapping[str, NDArray[Any]]:
        """The other buffers: those of the network, or those that all weights come with, from the first file."""
        if self.constants is not None:
            return self.constants
        return self._first_weights.buffers if self.index.paths["weights"] else {}

    @cached_property
    def _first_weights(self) -> StateDict:
        path = _first(self.index.paths["weights"])
        names = self.index.buffers or () if self.constants is None else self.constants
        read = read_state_dict(path, self.network, names)
        missing = [name for name in self.index.given_buffers or () if name not in read.buffers]
        if missing and self.constants is None:
            raise ImportFilesError(f"{path}: has no tensor {missing[0]!r}, which was given as a buffer: leave it out")
        return read

    @property
    def notes_on_weights(self) -> tuple[str, ...]:
        """What was done to obtain the weights in the first file."""
        return self._first_weights.notes

    def _check_names(self, shapes: Shapes) -> None:
        """Raise :class:`ImportFilesError` if a tensor may be a buffer: nothing but its name shows what it is."""
        if self.constants is not None or self.index.buffers is not None:
            return
        doubtful = [
            name
            for name in shapes
            if not _PARAMETER.search(name.rpartition(".")[2]) or _COMPUTES.sub("_orig", name) in shapes.keys() - {name}
        ]
        if doubtful and len(doubtful) < len(shapes):
            raise ImportFilesError(
                f"{_first(self.index.paths['weights'])}: {doubtful[0]!r} {shapes[doubtful[0]]} may be a buffer, which "
                f"is no part of θ: pass --buffers {','.join(doubtful)} if it is one, --buffers none if all tensors are "
                "parameters, or --recompute with the network"
            )

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def num_classes(self) -> int:
        """The number of classes: class columns of a table, or else the length of the network's last parameter."""
        columns = max((table.num_classes for table in self.index.tables.values()), default=0)
        if columns:
            return columns
        last = list(self.shapes.values())[-1]
        return last[0] if len(self.shapes) > 1 and last else _CLASSES

    # -- the store --------------------------------------------------------------------------------------------

    @cached_property
    def account(self) -> Account:
        """What is read, and how it is converted."""
        return account_of(self)

    def origin(self) -> Origin:
        """The record of the files in the store."""
        missing: dict[str, dict[str, list[float]]] = {}
        for kind in KINDS:
            for point in self.points:
                has_file = self.index.has(kind, (point.run.id, point.value))
                if not has_file and not self.is_recomputed(point):
                    missing.setdefault(kind, {}).setdefault(str(point.run.id), []).append(point.value)
        sources = self.index.sources
        return Origin(
            files="classic",
            source=sources.digest(),
            recompute=self.recompute,
            missing=missing,
            read=self.account.files,
            conversions=self.account.conversions,
        )

    def spec(self, identity: Mapping[str, Any], environment: Mapping[str, Any]) -> StoreSpec:
        """The specification of the store; ``identity`` is added to the identity of the config."""
        config = self.config
        parameters = [[name, list(shape)] for name, shape in self.shapes.items()]
        origin = self.origin()
        return StoreSpec(
            grid=config.l2,
            runs=self.runs,
            k=config.k,
            num_classes=self.num_classes,
            parameters=tuple(self.shapes.items()),
            identity={
                **config.identity(),
                **({"distance": self.distance} if self.distance else {}),
                "parameters": parameters,
                "imported": origin.source,
                **identity,
            },
            attrs={
                "config": json.dumps(config.to_mapping()),
                "penalty_scale": config.penalty_scale,
                "environment": json.dumps(dict(environment)),
                ORIGIN: origin.to_json(),
            },
            notes=self._notes(),
        )

    def _notes(self) -> dict[str, dict[str, str]]:
        """Attributes of the variables: the files that their values come from, and how these were rounded."""
        notes: dict[str, dict[str, str]] = {}
        for kind in KINDS:
            paths = self.index.sources.tables if kind == "accuracy" else self.index.sources.files[kind]
            if not paths or self._recomputes_all:
                continue
            first = _first(paths)
            digits = None if kind == "weights" else count_decimals(first)
            rounding = f", off by up to {0.5 * 10**-digits:.0e}: {digits} decimals" if digits is not None else ""
            exact = "; weights alone are used where there are any" if self.recompute else ""
            text = f"imported from {len(paths)} files such as {first.name}{rounding}{exact}"
            names = TABLE_VARIABLES if kind == "accuracy" else (VARIABLE_OF[kind],)
            notes.update({name: {"provenance": text} for name in names})
        if self.distance:
            tables = [path.name for run, path in self.index.sources.tables.items() if self.index.tables[run].distance]
            reference = f"that of the column {self.distance} of {', '.join(tables)}"
            notes["distance"] = {**notes.get("distance", {}), "reference": reference}
        return notes


def _first(paths: Mapping[Any, Path]) -> Path:
    return next(iter(paths.values()))
