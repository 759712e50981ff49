#!/usr/bin/env python3
"""Verifies an exported audit trail of Hanse against checkpoints, witness files and proofs. Python's standard library alone.

It shares no code with Hanse and goes other ways where there are several: the tree is computed by the recursive definition of
RFC 6962, section 2.1, proofs are followed by recursion from the root, and Ed25519 is that of RFC 8032, section 6. It knows of
Hanse only what docs/operations.md says of the formats.

    verify.py --key audit.vkey [--checkpoint FILE]... [--witness FILE] [--record FILE]... [--since FILE --consistency FILE] [TRAIL]...

Each TRAIL (JSON lines) must contain every checkpoint given, and for each one line says `ok` or `BAD` and why. --record is what
`hanse audit prove --seq N -o json` printed; --consistency what `prove --since OLD -o json` printed, --since the earlier checkpoint.
Ends with 0 if all is well, 1 if anything is BAD, 2 if it was called wrongly.
"""

import argparse
import base64
import hashlib
import json
import re
import sys


class Bad(Exception):
    """Something does not add up."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# --- Ed25519, RFC 8032, section 6 (verification only) ---

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point_add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, d - c, d + c, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_times(s, point):
    result = (0, 1, 1, 0)
    while s > 0:
        if s & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        s >>= 1
    return result


def point_equal(a, b):
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P)
    if x2 % P == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P != 0:
        return None
    return P - x if x & 1 != sign else x


def decompress(data):
    if len(data) != 32:
        return None
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


G_Y = 4 * pow(5, -1, P) % P
G = (recover_x(G_Y, 0), G_Y, 1, recover_x(G_Y, 0) * G_Y % P)


def ed25519_verify(public, message, signature):
    if len(signature) != 64:
        return False
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    return point_equal(point_times(s, G), point_add(r, point_times(h, a)))


# --- The tree, RFC 6962, section 2.1 ---


def leaf_hash(content):
    return sha256(b"\x00", content)


def node_hash(left, right):
    return sha256(b"\x01", left, right)


def split(n):
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree_hash(leaves):
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def root_of_path(leaf, index, size, path):
    """The root that an inclusion proof leads to, from the root's end of the path."""
    if not 0 <= index < size:
        raise Bad("the record is not in the tree")
    if size == 1:
        if path:
            raise Bad("the proof is too long")
        return leaf
    if not path:
        raise Bad("the proof is too short")
    k = split(size)
    if index < k:
        return node_hash(root_of_path(leaf, index, k, path[:-1]), path[-1])
    return node_hash(path[-1], root_of_path(leaf, index - k, size - k, path[:-1]))


def roots_of_consistency(low, high, old, old_root, proof):
    """Roots of the old tree's and the new tree's part over leaves low..high."""
    if old == high:
        if low == 0:
            if proof:
                raise Bad("the proof is too long")
            return old_root, old_root
        if len(proof) != 1:
            raise Bad("the proof has another length")
        return proof[0], proof[0]
    if not proof:
        raise Bad("the proof is too short")
    k = split(high - low)
    if old <= low + k:
        before, now = roots_of_consistency(low, low + k, old, old_root, proof[:-1])
        return before, node_hash(now, proof[-1])
    before, now = roots_of_consistency(low + k, high, old, old_root, proof[:-1])
    return node_hash(proof[-1], before), node_hash(proof[-1], now)


def check_consistency(old, new, proof):
    """old, new: checkpoints."""
    if new["size"] < old["size"]:
        raise Bad(f"the trail has {new['size']} records and had {old['size']}: the end was cut off")
    if old["size"] == 0:
        if proof or old["root"] != sha256():
            raise Bad("the earlier tree was not empty")
        return
    if roots_of_consistency(0, new["size"], old["size"], old["root"], proof) != (old["root"], new["root"]):
        raise Bad(f"the first {old['size']} records are not those of before")


# --- Signed notes (c2sp.org/signed-note) and checkpoints (c2sp.org/tlog-checkpoint) ---


def read_key(text):
    name, key_id, key = text.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    if len(key) != 33 or key[0] != 1:
        raise Bad("the key is not of type Ed25519")
    if sha256(name.encode(), b"\n", key)[:4].hex() != key_id:
        raise Bad("the key's id does not fit")
    return name, key[1:]


def open_checkpoint(note, key):
    name, public = key
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    if not separator:
        raise Bad("this is not a signed note")
    key_id = sha256(name.encode(), b"\n\x01", public)[:4]
    signed = False
    for line in signatures.splitlines():
        dash, who, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "\u2014" and who == name and signature[:4] == key_id:
            if not ed25519_verify(public, text.encode(), signature[4:]):
                raise Bad("the signature does not fit")
            signed = True
    if not signed:
        raise Bad("it is not signed by the key")
    lines = text.splitlines()
    more = dict(line.split(" ", 1) for line in lines[3:])
    if lines[0] != name or lines[1] != str(int(lines[1])):
        raise Bad("it is not a checkpoint of this trail")
    root = base64.b64decode(lines[2], validate=True)
    if len(root) != 32 or (lines[1] == "0" and root != sha256()):
        raise Bad("its root is none")
    return {"size": int(lines[1]), "root": root, "chain": more["chain"], "cluster": more["cluster"]}


def note_of(text):
    """A note, or the JSON that holds one."""
    return json.loads(text)["checkpoint"]["note"] if text.startswith("{") else text


# --- The trail ---

LINE = re.compile(rb'(\{.*),"hash":"([0-9a-f]{64})"\}', re.DOTALL)


def record_of(line):
    """Number, hash before and hash of one line; its hash must be that of its bytes."""
    found = LINE.fullmatch(line)
    if not found:
        raise Bad("a line does not end with its hash")
    record = json.loads(line)
    if sha256(found[1], b"}").hex() != found[2].decode() or record["hash"] != found[2].decode():
        raise Bad(f"record {record['seq']} was changed")
    return record["seq"], record["prev_hash"], found[2].decode()


def chain_of(lines):
    """The hashes of all records, which must follow one another."""
    hashes, last = [], "0" * 64
    for number, line in enumerate(lines, 1):
        seq, before, now = record_of(line)
        if type(seq) is not int or seq != number:
            raise Bad(f"line {number} is record {seq}: one is missing, doubled or moved")
        if before != last:
            raise Bad(f"record {seq} does not continue the one before")
        hashes.append(now)
        last = now
    return hashes


def check_trail(lines, checkpoints):
    hashes = chain_of(lines)
    leaves = [leaf_hash(bytes.fromhex(it)) for it in hashes]
    for checkpoint in checkpoints:
        size = checkpoint["size"]
        if size > len(hashes):
            raise Bad(f"it ends at record {len(hashes)}, but there were {size}: the end is cut off")
        if checkpoint["chain"] != (hashes[size - 1] if size else "0" * 64):
            raise Bad(f"record {size} is another: the trail was written anew")
        if tree_hash(leaves[:size]) != checkpoint["root"]:
            raise Bad(f"the first {size} records make another root")
    return len(hashes)


def check_witness(text, key):
    """The checkpoints of a witness's file, each proven to continue the one before."""
    head, *rest = text.splitlines()
    head = json.loads(head)
    if head["version"] != 1 or read_key(head["key"]) != key:
        raise Bad("the witness trusts another key, or its file has another version")
    seen = []
    for line in rest:
        line = json.loads(line)
        checkpoint = open_checkpoint(line["checkpoint"], key)
        if seen:
            if seen[-1]["cluster"] != checkpoint["cluster"]:
                raise Bad("a checkpoint is of another cluster")
            check_consistency(seen[-1], checkpoint, [bytes.fromhex(it) for it in line["proof"]])
        seen.append(checkpoint)
    return seen


def check_record(text, key):
    proof = json.loads(text)
    checkpoint = open_checkpoint(proof["checkpoint"]["note"], key)
    seq, _, chain = record_of(proof["line"].encode())
    path = [bytes.fromhex(it) for it in proof["proof"]]
    if root_of_path(leaf_hash(bytes.fromhex(chain)), seq - 1, checkpoint["size"], path) != checkpoint["root"]:
        raise Bad(f"record {seq} is not in the tree")
    return f"record {seq} is one of {checkpoint['size']}"


def check_since(old, text, key):
    proof = json.loads(text)
    old, new = open_checkpoint(note_of(old), key), open_checkpoint(proof["checkpoint"]["note"], key)
    check_consistency(old, new, [bytes.fromhex(it) for it in proof["proof"]])
    return f"{new['size']} records continue {old['size']}"


def read(path, mode="r"):
    with open(path, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as file:
        return file.read()


def read_lines(path):
    data = read(path, "rb")
    return data.removesuffix(b"\n").split(b"\n") if data else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--key", required=True)
    parser.add_argument("--checkpoint", action="append", default=[])
    parser.add_argument("--witness")
    parser.add_argument("--record", action="append", default=[])
    parser.add_argument("--since")
    parser.add_argument("--consistency")
    parser.add_argument("trail", nargs="*")
    args = parser.parse_args()
    if (args.since is None) != (args.consistency is None):
        parser.error("--since and --consistency belong together")
    bad = 0

    def each(name, check):
        nonlocal bad
        try:
            print(f"ok {name}: {check()}")
        except (Bad, ValueError, KeyError, TypeError, IndexError) as error:
            # Whatever cannot be read is no trail, proof or checkpoint.
            print(f"BAD {name}: {error}")
            bad += 1

    key = read_key(read(args.key) if "+" not in args.key else args.key)
    checkpoints = [open_checkpoint(note_of(read(path)), key) for path in args.checkpoint]
    if args.witness:
        def witness():
            checkpoints.extend(check_witness(read(args.witness), key))
            return f"{len(checkpoints)} checkpoints"
        each(args.witness, witness)
    for path in args.record:
        each(path, lambda: check_record(read(path), key))
    if args.since:
        each(args.consistency, lambda: check_since(read(args.since), read(args.consistency), key))
    for path in args.trail:
        each(path, lambda: f"{check_trail(read_lines(path), checkpoints)} records")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Bad, OSError, ValueError, KeyError) as error:
        print(f"BAD: {error}")
        sys.exit(1)
