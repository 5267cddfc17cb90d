"""What aics-tlog, a package of others, says of a log of evidence: `external.py FOLDER [PROOF...]`.

Prints one JSON object: for each thing `null`, or why it does not hold; under `proofs` each file. Exits with 1 if anything does
not hold. Hashes, signatures and proofs are the package's, which knows nothing of kordon. What is here finds them in files.
"""

import base64
import json
import re
import sys
from pathlib import Path

import aics_tlog

TEXT = {"encoding": "utf-8", "newline": ""}  # bytes are signed: no end of line is to be made another one


def read(path):
    with open(path, **TEXT) as file:
        return file.read()


def believed(text, key):
    """The checkpoint of a signed note, if the log's key has signed it."""
    found = aics_tlog.verify_checkpoint(
        aics_tlog.parse_note(text), key, expected_origin=key.name
    )
    if not found.ok:
        raise ValueError(found.error)
    return found


def records(folder):
    """Lines that are whole, without their `\\n`. `splitlines` would also take `\\r` for an end, and hide one that was put in."""
    files = sorted(folder.glob("*.jsonl"))
    return b"".join(file.read_bytes() for file in files).split(b"\n")[:-1]


def of_records(tree, newest):
    if tree.size < newest.size:
        raise ValueError(f"{tree.size} records, and {newest.size} are signed")
    if tree.root(newest.size) != newest.root:
        raise ValueError("the records have another root than the one that is signed")


def of_tiles(folder, newest):
    # There are no bundles of entries: records are in the files of lines instead.
    tiles = aics_tlog.FileSystemTileReader(folder)
    aics_tlog.audit_tiles(tiles, newest.size, newest.root, entries=False)


def of_history(folder, key, newest):
    """Each checkpoint that there was leads to the next, by a proof out of the log's tiles, and the last to the newest."""
    tiles = aics_tlog.FileSystemTileReader(folder)
    notes = re.findall(r".*?\n— [^\n]*\n", read(folder / "checkpoints"), re.DOTALL)
    every = [believed(note, key) for note in notes] + [newest]
    for old, new in zip(every, every[1:]):
        proof = aics_tlog.consistency_proof_from_tiles(
            tiles, old.size, new.size, tile_size=newest.size
        )
        if not aics_tlog.verify_consistency(
            old.size, new.size, old.root, new.root, proof
        ):
            raise ValueError(f"{old.size} records are not how {new.size} begin")


def of_proof(path, key):
    """A C2SP tlog-proof, with the record in its `extra` line."""
    head, _, note = read(path).partition("\n\n")
    magic, extra, index, *hashes = head.split("\n")
    if magic != "c2sp.org/tlog-proof@v1":
        raise ValueError("not a tlog-proof")
    record = base64.b64decode(extra.removeprefix("extra "), validate=True)
    hashes = [base64.b64decode(line, validate=True) for line in hashes]
    signed = believed(note, key)
    index = int(index.removeprefix("index "))
    if not aics_tlog.verify_leaf_inclusion(
        record, index, signed.size, hashes, signed.root
    ):
        raise ValueError("the record is not the one that is signed")


def why(check, *about):
    """Why something does not hold, or `None`."""
    try:
        check(*about)
    except (OSError, ValueError) as error:
        return str(error) or repr(error)
    return None


def main(folder, proofs):
    key = aics_tlog.parse_vkey(read(folder / "key.pub").rstrip("\n"))
    tree = aics_tlog.MerkleTree(records(folder))
    said = {"read": tree.size, "signed": None}
    try:
        newest = believed(read(folder / "checkpoint"), key)
        said |= {"signed": newest.size, "checkpoint": None}
        said["records"] = why(of_records, tree, newest)
        said["tiles"] = why(of_tiles, folder, newest)
        said["history"] = why(of_history, folder, key, newest)
    except (OSError, ValueError) as error:
        # Nothing is compared with what nobody answers for.
        without = "the checkpoint is not believed"
        said |= dict.fromkeys(["records", "tiles", "history"], without)
        said["checkpoint"] = str(error)
    said["proofs"] = {path: why(of_proof, path, key) for path in proofs}
    wrong = [said[name] for name in ["checkpoint", "records", "tiles", "history"]]
    said["ok"] = not any([*wrong, *said["proofs"].values()])
    print(json.dumps(said))
    return 0 if said["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
