"""Verifies an NDJSON export by docs/evidence.md alone: nothing here knows Picket's code. `python verify.py FILE`"""

import datetime
import hashlib
import json
import sys


def text(value):
    if value is None:
        return b"\0"
    raw = value.encode()
    return b"\1" + len(raw).to_bytes(4, "big") + raw


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def raw_metadata(line):
    """The text of the metadata as it stands in the line."""
    start = line.find('"metadata":')
    while start >= 0:
        start += len('"metadata":')
        try:
            _, length = json.JSONDecoder().raw_decode(line[start:])
            if json.loads(line).get("metadata") == json.loads(line[start:start + length]):
                return line[start:start + length]
        except ValueError:
            pass
        start = line.find('"metadata":', start)
    return "{}"


def digest(line):
    record = json.loads(line)
    chain = record["chain"]
    if "salt" in chain:
        personal = [record["ip"], record["message"], record.get("socketId"), record.get("userId"), raw_metadata(line)]
        commitment = sha256(b"picket audit personal 1", bytes.fromhex(chain["salt"]), *map(text, personal))
    else:
        commitment = bytes.fromhex(chain["commitment"])
    time = datetime.datetime.fromisoformat(record["timestamp"])
    millis = str(round(time.timestamp() * 1000))
    said = [record["id"], millis, record["eventType"], record["severity"]]
    said += [record.get(name) for name in ("eventName", "route", "node", "reason")]
    return chain["writer"], chain["seq"], sha256(b"picket audit record 1", *map(text, said), commitment), chain["hash"]


def verify(lines):
    """How many records follow from what they say and the one before, how many are taken as given, and the broken ones."""
    chains, checked, given, broken = {}, 0, 0, []
    for writer, seq, said, stored in map(digest, lines):
        chains.setdefault(writer, {})[seq] = (said, bytes.fromhex(stored))
    for writer, records in chains.items():
        for seq, (said, stored) in sorted(records.items()):
            before = sha256(b"picket audit chain 1", writer.encode()) if seq == 1 else records.get(seq - 1, (None, None))[1]
            if before is None:
                given += 1
            elif sha256(before, said) == stored:
                checked += 1
            else:
                broken.append((writer, seq))
    return checked, given, broken


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as export:
        print(verify(export.read().splitlines()))
