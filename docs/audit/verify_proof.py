#!/usr/bin/env python3
"""Checks the proofs that `durward audit prove` writes, without durward: only the Python standard library is needed.

    verify_proof.py PROOF_FILE VERIFIER_KEY_FILE

PROOF_FILE has one or more C2SP tlog-proofs, each with its entry in the line `extra`. VERIFIER_KEY_FILE is the `.pub` file of
the trail; get it from somebody you trust, not together with the proof. Prints the entries that are proven; 0 if all are, 1 if not.
"""
import base64, hashlib, sys

# Ed25519 (RFC 8032, section 6). It only verifies, so nothing here is secret.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    c, d = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    e, f = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    g, h, i, j = d - c, f - e, f + e, d + c
    return (g * h % P, i * j % P, h * i % P, g * j % P)


def times(n, point):
    result = (0, 1, 1, 0)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def decompress(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        raise ValueError("a point is not canonical")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        raise ValueError("a point is not on the curve")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_holds(public, message, signature):
    a, r, s = decompress(public), decompress(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    one, other = times(s, BASE), add(r, times(h, a))
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (one[1] * other[2] - other[1] * one[2]) % P == 0


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def decode(text):
    return base64.b64decode(text, validate=True)


def root_of(index, size, node, path):
    """The root that leaf and path lead to (RFC 9162, section 2.1.3.2)."""
    last = size - 1
    for other in path:
        if last == 0:
            raise ValueError("the path is too long")
        if index & 1 or index == last:
            node = sha256(b"\1", other, node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\1", node, other)
        index, last = index >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return node


def check(proof, vkey):
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise ValueError("this is not a proof with its entry")
    entry, index = decode(lines[1][6:]), int(lines[2][6:])
    # The checkpoint: a C2SP signed note.
    name, key_id, key = vkey.split("+", 2)
    key = decode(key)
    if key[:1] != b"\1" or sha256(name.encode(), b"\n", key)[:4].hex() != key_id:
        raise ValueError("this is not an Ed25519 verifier key")
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    mine = [decode(line.split(" ")[2]) for line in signatures.split("\n") if line.startswith("\u2014 " + name + " ")]
    mine = [signature[4:] for signature in mine if signature[:4].hex() == key_id]
    if not mine or not all(ed25519_holds(key[1:], text.encode(), signature) for signature in mine):
        raise ValueError("the checkpoint is not signed with this key")
    origin, size, root = text.split("\n")[:3]
    if origin != name or not 0 <= index < int(size):
        raise ValueError("the checkpoint is not of this trail, or too small")
    if root_of(index, int(size), sha256(b"\0", entry), [decode(line) for line in lines[3:]]) != decode(root):
        raise ValueError("the entry is not in the tree of the checkpoint")
    if not entry.startswith(b'{"seq":%d,' % index):
        raise ValueError("the entry has another number than its place")
    return entry.decode()


def main(proof_file, key_file):
    with open(key_file, encoding="utf-8") as file:
        vkey = file.read().strip()
    with open(proof_file, encoding="utf-8", newline="") as file:
        first, *proofs = file.read().split("c2sp.org/tlog-proof@v1\n")
    if first.strip() or not proofs:
        raise ValueError("there is no proof in the file, or something before it")
    for number, proof in enumerate(proofs, 1):
        try:
            print(check("c2sp.org/tlog-proof@v1\n" + proof, vkey))
        except (ValueError, IndexError) as wrong:
            raise ValueError(f"proof {number} of {len(proofs)} does not hold: {wrong}") from None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2])
    except (OSError, ValueError) as wrong:
        print(f"NOT PROVEN: {wrong}", file=sys.stderr)
        sys.exit(1)
