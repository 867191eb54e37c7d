"""Transfer syntaxes over the network: each that is accepted is kept as it was sent, and scored as the file is."""

from __future__ import annotations

from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate
from pynetdicom import AE

from aeflow.data.records import Record
from aeflow.deploy.open_model import open_model
from aeflow.imageio.dicom.pixel_module import ENCAPSULATED, NATIVE
from aeflow.imageio.errors import ImageError
from aeflow.node.receiver import SYNTAXES
from aeflow.scoring.score_files import Sink, score_files
from aeflow.scoring.scorer import Score
from helpers.dicom_files import HIGH_THROUGHPUT, by_gdcm, compressed, content, dataset
from helpers.dicom_peers import CR, SMALL, listening, send

BY_GDCM = {
    uid.JPEGBaseline8Bit: (8, gdcm.TransferSyntax.JPEGBaselineProcess1),
    uid.JPEGExtended12Bit: (12, gdcm.TransferSyntax.JPEGExtendedProcess2_4),
    uid.JPEGLossless: (16, gdcm.TransferSyntax.JPEGLosslessProcess14),
    uid.JPEGLosslessSV1: (16, gdcm.TransferSyntax.JPEGLosslessProcess14_1),
}
BY_PYDICOM = {
    uid.JPEGLSLossless: {},
    uid.JPEGLSNearLossless: {"jls_error": 3},
    uid.JPEG2000Lossless: {},
    uid.JPEG2000: {"j2k_cr": [4]},
    uid.RLELossless: {},
}
# Films, JPEG 2000 of several components, and pixels that lie elsewhere.
NOT_READ = (uid.MPEG2MPML, uid.MPEG4HP41, uid.HEVCMP51, uid.JPEG2000MC, "1.2.840.10008.1.2.4.94")


def encoded(number: int, syntax: str, folder: Path) -> bytes:
    """Return an X-ray of smooth pixels in a transfer syntax."""
    bits, process = BY_GDCM.get(uid.UID(syntax), (12, 0))
    ramp = np.add.outer(np.arange(40), np.arange(48)) * (2**bits - 1) // 86
    elements = {
        "SOPClassUID": CR, "Modality": "CR", "StudyInstanceUID": "1.2.6", "SeriesInstanceUID": "1.2.6.1",
        "SOPInstanceUID": f"1.2.6.1.{number}",
    }  # fmt: skip
    data = dataset(ramp.astype("u1" if bits == 8 else "u2"), bits, **elements)
    if syntax in BY_GDCM:
        return by_gdcm(data, process, folder)
    if syntax in BY_PYDICOM:
        return compressed(data, syntax, **BY_PYDICOM[uid.UID(syntax)])
    if syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K):
        data.BitsStored, data.HighBit = 16, 15
        data.PixelData = encapsulate([HIGH_THROUGHPUT])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = syntax
        return content(data)
    return content(data, syntax)


class Values(Sink):
    """The score of each file, by its name."""

    def __init__(self) -> None:
        self.found: dict[Path, float | str] = {}

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        self.found[record.path] = result.value if isinstance(result, Score) else result.found


def test_what_the_decoders_read_is_accepted_and_nothing_else() -> None:
    assert set(SYNTAXES) == {*NATIVE, *ENCAPSULATED}
    assert len(SYNTAXES) == len(set(SYNTAXES))


def test_each_syntax_is_kept_as_it_was_sent_and_scored_as_the_file_is(tmp_path: Path, openvino_export: Path) -> None:
    files: list[Path] = []
    for number, syntax in enumerate(SYNTAXES):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(encoded(number, syntax, tmp_path))
    with listening(tmp_path / "store") as node:
        assert send(node.port, *files) == [0] * len(files)
        rows = {row["instance"]: row["name"] for row in node.queue.all("SELECT instance, name FROM objects")}
        kept = [node.store.path_of(rows[f"1.2.6.1.{number}"]) for number in range(len(files))]
        for syntax, file, path in zip(SYNTAXES, files, kept, strict=True):
            was, found = pydicom.dcmread(file), pydicom.dcmread(path)
            assert found.file_meta.TransferSyntaxUID == syntax
            assert found == was, uid.UID(syntax).name
        values = Values()
        records = [Record(path, path.name, None, None, None, None, None) for path in (*files, *kept)]
        score_files(open_model(openvino_export), records, [values])
    of_files, of_kept = ([values.found[path] for path in paths] for paths in (files, kept))
    assert all(isinstance(value, float) for value in of_files), of_files
    assert of_kept == of_files


def test_a_syntax_that_nobody_here_reads_is_not_accepted(tmp_path: Path) -> None:
    with listening(tmp_path, limits=SMALL) as node:
        for syntax in NOT_READ:
            entity = AE("MODALITY")
            entity.add_requested_context(CR, syntax)
            entity.add_requested_context(CR, uid.JPEG2000)
            assoc = entity.associate("127.0.0.1", node.port, ae_title="AEFLOW")
            assert [one.transfer_syntax for one in assoc.accepted_contexts] == [[uid.JPEG2000]]
            [refused] = assoc.rejected_contexts
            assert refused.result == 4  # transfer syntaxes not supported (PS3.8 table 9-18)
            assoc.release()
