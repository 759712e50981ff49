"""Writes osaka.json: blocks as Ethereum's executable specification runs them.

The specification (EELS, the reference that the protocol's tests are filled with) is the PyPI package
ethereum-execution. Transactions and programs are made here, at random from a seed and by hand where chance would
not find the case; what they do is the specification's word: state root, receipts root, bloom, gas. Each block
stands on a state of its own. `invalid` holds transactions that the specification refuses.

    python3 -m venv V && V/bin/pip install ethereum-execution==2.20.0
    V/bin/python make.py [SEED [BLOCKS]] > osaka.json

Without arguments it writes the file as it is committed. For a longer run write another file with more blocks and
name it to the test: HANSE_VECTORS=FILE cargo nextest run -p hanse-node specification
"""

import hashlib
import json
import random
import sys

import coincurve
from ethereum.crypto.hash import Hash32, keccak256
from ethereum.exceptions import EthereumException
from ethereum.forks.osaka import vm
from ethereum.forks.osaka.bloom import logs_bloom
from ethereum.forks.osaka.fork import (
    HISTORY_STORAGE_ADDRESS,
    process_transaction,
    process_unchecked_system_transaction,
)
from ethereum.forks.osaka.fork_types import Account, Address, Authorization
from ethereum.forks.osaka.state import State, get_storage, set_account, set_storage, state_root
from ethereum.forks.osaka.transactions import (
    Access,
    AccessListTransaction,
    FeeMarketTransaction,
    LegacyTransaction,
    SetCodeTransaction,
    encode_transaction,
    signing_hash_155,
    signing_hash_1559,
    signing_hash_2930,
    signing_hash_7702,
)
from ethereum.forks.osaka.trie import root
from ethereum.forks.osaka.vm.eoa_delegation import SET_CODE_TX_MAGIC
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes, Bytes0, Bytes32
from ethereum_types.numeric import U8, U64, U256, Uint
from py_ecc.bls12_381 import G1, G2, add, curve_order, multiply, neg
from py_ecc.bn128 import G1 as BN1
from py_ecc.bn128 import G2 as BN2
from py_ecc.bn128 import multiply as bn_multiply
from py_ecc.bn128 import neg as bn_neg

CHAIN_ID = 7
BASE_FEE = 7
GAS_LIMIT = 200_000_000
TIMESTAMP = 1_800_000_000
PARENT = keccak256(b"a parent")
COINBASE = Address(b"\xcb" * 20)
HISTORY_CODE = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257"
    "611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
KEYS = [coincurve.PrivateKey(bytes([n]) * 32) for n in (11, 12, 13, 14)]
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def address_of(key):
    return Address(keccak256(key.public_key.format(compressed=False)[1:])[12:])


def contract(number):
    return Address(bytes([0xC0]) + number.to_bytes(19, "big"))


def sign(key, hash_):
    signature = key.sign_recoverable(bytes(hash_), hasher=None)
    return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


# ---- programs


def push(value):
    if value == 0:
        return b"\x5f"
    length = (value.bit_length() + 7) // 8
    return bytes([0x5F + length]) + value.to_bytes(length, "big")


# Opcode: what its arguments are, top of the stack first. w: a word, o: offset, l: length, k: storage key, a: address.
OPCODES = {
    **{op: "ww" for op in [*range(0x01, 0x08), 0x0A, 0x0B, *range(0x10, 0x15), *range(0x16, 0x19), *range(0x1A, 0x1E)]},
    **{op: "www" for op in (0x08, 0x09)},
    **{op: "w" for op in (0x15, 0x19, 0x1E)},
    0x20: "ol",
    **{op: "" for op in (0x30, 0x32, 0x33, 0x34, 0x36, 0x38, 0x3A, 0x3D)},
    **{op: "" for op in (0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x4A, 0x58, 0x59, 0x5A)},
    0x31: "a",
    0x35: "o",
    0x37: "ool",
    0x39: "ool",
    0x3B: "a",
    0x3C: "aool",
    0x3E: "ool",
    0x3F: "a",
    0x49: "o",
    0x51: "o",
    0x52: "ow",
    0x53: "ow",
    0x54: "k",
    0x55: "kw",
    0x5C: "k",
    0x5D: "kw",
    0x5E: "ool",
    0xA0: "ol",
    0xA1: "olw",
    0xA2: "olww",
    0xA3: "olwww",
    0xA4: "olwwww",
    0xF0: "wol",
    0xF1: "gavolol",
    0xF2: "gavolol",
    0xF4: "gaolol",
    0xF5: "wolw",
    0xFA: "gaolol",
}
RESULTS = {
    **{op: 0 for op in (0x37, 0x39, 0x3C, 0x3E, 0x52, 0x53, 0x55, 0x5D, 0x5E, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4)},
}
WORDS = [0, 1, 2, 3, 31, 32, 255, 256, 2**64, 2**128 - 1, 2**255 - 1, 2**255, 2**256 - 1, 2**256 - 2, 0xFF << 248]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def word(self):
        pick = self.random.random()
        if pick < 0.6:
            return self.random.choice(WORDS)
        return self.random.getrandbits(self.random.choice([8, 16, 64, 160, 256]))

    def address(self):
        pick = self.random.random()
        if pick < 0.55:
            return int.from_bytes(contract(self.random.randrange(12)), "big")
        if pick < 0.7:
            return int.from_bytes(address_of(self.random.choice(KEYS)), "big")
        if pick < 0.9:
            return self.random.choice([1, 2, 3, 4, 5, 6, 7, 9])
        return self.random.getrandbits(160)

    def argument(self, kind):
        choose = self.random.choice
        return {
            "w": self.word,
            "o": lambda: choose([0, 0, 1, 32, 33, 64, 100, 200]),
            "l": lambda: choose([0, 1, 4, 32, 32, 64, 96]),
            "k": lambda: choose([0, 1, 2, 3, 2**256 - 1]),
            "a": self.address,
            "g": lambda: choose([0, 2300, 10_000, 50_000, 10**9]),
            "v": lambda: choose([0, 0, 0, 1, 1000, 2**200]),
        }[kind]()

    def program(self, steps):
        code, depth = bytearray(), 0
        for _ in range(self.random.randrange(1, steps)):
            pick = self.random.random()
            if pick < 0.08 and depth >= 2:
                code.append(self.random.choice([0x80, 0x81, 0x90, 0x50][: 4 if depth > 2 else 2]))
                depth += {0x80: 1, 0x81: 1, 0x90: 0, 0x50: -1}[code[-1]]
            elif pick < 0.12:
                # Jump over what would end the program.
                target = len(code) + 6
                code += b"\x61" + (target - 1).to_bytes(2, "big") + b"\x56\xfe\x5b"
            elif pick < 0.13:
                code.append(self.random.choice([0x00, 0xFE, 0xFD, 0x0C, 0x56, 0x01]))
            else:
                op = self.random.choice(list(OPCODES))
                for kind in reversed(OPCODES[op]):
                    code += push(self.argument(kind))
                code.append(op)
                depth += RESULTS.get(op, 1)
            if depth > 0 and self.random.random() < 0.35:
                code += push(self.random.randrange(6)) + b"\x55"
                depth -= 1
        end = self.random.random()
        if end < 0.2:
            code += push(32) + push(0) + b"\xf3"
        elif end < 0.3:
            code += push(32) + push(0) + b"\xfd"
        elif end < 0.4:
            code += push(self.address()) + b"\xff"
        return bytes(code)


def store_result(op, *arguments):
    """Code that stores what one opcode gives."""
    code = b"".join(push(a) for a in reversed(arguments)) + bytes([op])
    return code + push(0) + b"\x55"


def call_precompile(number):
    """Code that hands all call data to a precompile and stores success, length and hash of what it returns."""
    return (
        bytes.fromhex("365f5f37")  # CALLDATACOPY(0, 0, CALLDATASIZE)
        + push(0) + push(0) + bytes([0x36]) + push(0) + push(0)
        + push(number) + b"\x5a\xf1" + push(0) + b"\x55"
        + b"\x3d" + push(1) + b"\x55"
        + b"\x3d" + push(0) + push(0) + b"\x3e"
        + b"\x3d" + push(0) + b"\x20" + push(2) + b"\x55"
    )


# ---- inputs of precompiles


def fp(n):
    return n.to_bytes(64, "big")


def g1(p):
    return b"\0" * 128 if p is None or p[0] is None else fp(int(p[0])) + fp(int(p[1]))


def g2(p):
    if p is None or p[0] is None:
        return b"\0" * 256
    return b"".join(fp(int(c)) for coordinate in (p[0], p[1]) for c in coordinate.coeffs)


def bn1(p):
    return b"\0" * 64 if p is None else int(p[0]).to_bytes(32, "big") + int(p[1]).to_bytes(32, "big")


def bn2(p):
    return b"".join(int(c).to_bytes(32, "big") for coordinate in (p[0], p[1]) for c in reversed(coordinate.coeffs))


def p256(message, secret):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    key = ec.derive_private_key(secret, ec.SECP256R1())
    digest = hashlib.sha256(message).digest()
    # Deterministic (RFC 6979), so that the file is the same each time.
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True))
    r, s = utils.decode_dss_signature(signature)
    public = key.public_key().public_numbers()
    return digest + b"".join(n.to_bytes(32, "big") for n in (r, s, public.x, public.y))


def modexp(base, exponent, modulus):
    parts = [n.to_bytes((n.bit_length() + 7) // 8, "big") for n in (base, exponent, modulus)]
    return b"".join(len(part).to_bytes(32, "big") for part in parts) + b"".join(parts)


def precompile_inputs(make):
    rand = make.random
    v, r, s = sign(KEYS[0], keccak256(b"hello"))
    recover = keccak256(b"hello") + (27 + v).to_bytes(32, "big") + r.to_bytes(32, "big") + s.to_bytes(32, "big")
    # EIP-152: rounds, state, message, offset, whether it is the last.
    blake = (12).to_bytes(4, "big") + rand.randbytes(64) + b"abc".ljust(128, b"\0") + (3).to_bytes(8, "little")
    blake += b"\0" * 8 + b"\x01"
    infinity = b"\xc0" + b"\0" * 47
    z = (5).to_bytes(32, "big")
    kzg = b"\x01" + hashlib.sha256(infinity).digest()[1:] + z + b"\0" * 32 + infinity + infinity
    p, q = multiply(G1, 7), multiply(G2, 9)
    scalar = [rand.getrandbits(256) % curve_order for _ in range(3)]
    msm1 = b"".join(g1(multiply(G1, n + 2)) + scalar[n].to_bytes(32, "big") for n in range(3))
    msm2 = b"".join(g2(multiply(G2, n + 2)) + scalar[n].to_bytes(32, "big") for n in range(2))
    pair = g1(multiply(G1, 6)) + g2(multiply(G2, 4)) + g1(neg(multiply(G1, 8))) + g2(multiply(G2, 3))
    bn_pair = (
        bn1(bn_multiply(BN1, 6)) + bn2(bn_multiply(BN2, 4)) + bn1(bn_neg(bn_multiply(BN1, 8))) + bn2(bn_multiply(BN2, 3))
    )
    good = {
        1: [recover, recover[:127] + bytes([recover[127] ^ 1]), recover[:63] + b"\x1d" + recover[64:]],
        2: [b"", b"abc", rand.randbytes(200)],
        3: [b"", b"abc", rand.randbytes(200)],
        4: [b"", rand.randbytes(77)],
        5: [
            modexp(3, 2**256 - 2**32 - 978, 2**256 - 2**32 - 977),
            modexp(rand.getrandbits(500), rand.getrandbits(300), rand.getrandbits(512) | 1),
            modexp(2, 5, 0),
            modexp(0, 0, 1),
            (1025).to_bytes(32, "big") + (1).to_bytes(32, "big") * 2 + b"\1" * 1030,  # EIP-7823: too long
            b"",
        ],
        6: [bn1(bn_multiply(BN1, 5)) + bn1(bn_multiply(BN1, 11)), bn1(None) * 2, bn1(BN1) + bn1(bn_neg(BN1)), b"\1" * 128],
        7: [bn1(BN1) + scalar[0].to_bytes(32, "big"), bn1(bn_multiply(BN1, 3)) + b"\xff" * 32, b"\1" * 96],
        8: [b"", bn_pair, bn_pair[:192], bn_pair[:191]],
        9: [blake, blake[:-1], blake[:-1] + b"\x02", b"\0\0\0\0" + blake[4:]],
        10: [kzg, kzg[:-1], kzg[:64] + b"\0" * 31 + b"\x01" + kzg[96:]],
        11: [g1(p) + g1(multiply(G1, 100)), g1(p) + g1(neg(p)), g1(None) + g1(p), g1(p)[:-1] + b"\x00" + g1(p)],
        12: [msm1, msm1[:160], msm1[:159], b""],
        13: [g2(q) + g2(multiply(G2, 100)), g2(q) + g2(neg(q)), g2(None) + g2(q), b"\x01" * 512],
        14: [msm2, msm2[:288], b""],
        15: [pair, pair[:384], b"", pair[:-1]],
        16: [fp(5), fp(0), b"\xff" * 64],
        17: [fp(5) + fp(6), fp(0) * 2, b"\xff" * 128],
        256: [p256(b"message", 77), p256(b"message", 77)[:-1] + b"\x00", b"", rand.randbytes(160)],
    }
    return [(number, data) for number, inputs in good.items() for data in inputs]


# ---- blocks


class World:
    """A block under construction: the state before it, the specification's run of it."""

    def __init__(self, name, alloc):
        self.name, self.alloc = name, alloc
        self.nonces = {}
        self.transactions, self.invalid = [], []
        self.state = State()
        full = {HISTORY_STORAGE_ADDRESS: {"nonce": 1, "code": HISTORY_CODE}, **alloc}
        for key in KEYS:
            full.setdefault(address_of(key), {"balance": 10**21})
        self.full = full
        for address, account in full.items():
            set_account(
                self.state,
                address,
                Account(
                    nonce=Uint(account.get("nonce", 0)),
                    balance=U256(account.get("balance", 0)),
                    code=Bytes(account.get("code", b"")),
                ),
            )
            for slot, value in account.get("storage", {}).items():
                set_storage(self.state, address, Bytes32(slot.to_bytes(32, "big")), U256(value))
        self.env = vm.BlockEnvironment(
            chain_id=U64(CHAIN_ID),
            state=self.state,
            block_gas_limit=Uint(GAS_LIMIT),
            block_hashes=[Hash32(PARENT)],
            coinbase=COINBASE,
            number=Uint(1),
            base_fee_per_gas=Uint(BASE_FEE),
            time=U256(TIMESTAMP),
            prev_randao=Bytes32(b"\0" * 32),
            excess_blob_gas=U64(0),
            parent_beacon_block_root=Hash32(b"\0" * 32),
        )
        self.output = vm.BlockOutput()
        process_unchecked_system_transaction(
            block_env=self.env, target_address=HISTORY_STORAGE_ADDRESS, data=Hash32(PARENT)
        )

    def make(self, kind, key, to, data=b"", value=0, gas=1_000_000, access=(), authorizations=(), **edit):
        nonce = edit.pop("nonce", self.nonces.get(address_of(key), 0))
        to = Bytes0(b"") if to is None else to
        common = dict(nonce=U256(nonce), gas=Uint(gas), to=to, value=U256(value), data=Bytes(data), r=U256(0), s=U256(0))
        chain_id = edit.pop("chain_id", CHAIN_ID)
        access = tuple(Access(account=a, slots=tuple(Bytes32(k.to_bytes(32, "big")) for k in slots)) for a, slots in access)
        fees = dict(
            max_priority_fee_per_gas=Uint(edit.pop("tip", 2)), max_fee_per_gas=Uint(edit.pop("max_fee", 12))
        )
        if kind == 0:
            tx = LegacyTransaction(gas_price=Uint(10), v=U256(0), **common)
            parity, r, s = sign(key, signing_hash_155(tx, U64(chain_id)))
            tx = LegacyTransaction(gas_price=Uint(10), v=U256(35 + 2 * chain_id + parity), **{**common, "r": U256(r), "s": U256(s)})
            return tx
        if kind == 1:
            build = lambda **sig: AccessListTransaction(
                chain_id=U64(chain_id), gas_price=Uint(11), access_list=access, **{**common, **sig}
            )
            hash_ = signing_hash_2930
        elif kind == 2:
            build = lambda **sig: FeeMarketTransaction(
                chain_id=U64(chain_id), access_list=access, **fees, **{**common, **sig}
            )
            hash_ = signing_hash_1559
        else:
            common["nonce"] = U64(nonce)
            build = lambda **sig: SetCodeTransaction(
                chain_id=U64(chain_id), access_list=access, authorizations=tuple(authorizations), **fees, **{**common, **sig}
            )
            hash_ = signing_hash_7702
        parity, r, s = sign(key, hash_(build(y_parity=U256(0))))
        return build(y_parity=U256(parity), r=U256(r), s=U256(s))

    def run(self, *arguments, **named):
        tx = self.make(*arguments, **named)
        process_transaction(self.env, self.output, tx, Uint(len(self.transactions)))
        self.transactions.append(raw(tx))
        sender = address_of(arguments[1])
        self.nonces[sender] = self.nonces.get(sender, 0) + 1

    def refuse(self, *arguments, **named):
        """A transaction that cannot be in this block at this place."""
        tx = self.make(*arguments, **named)
        try:
            process_transaction(self.env, self.output, tx, Uint(len(self.transactions)))
        except EthereumException as error:
            self.invalid.append({"after": len(self.transactions), "raw": raw(tx), "why": type(error).__name__})
            # The specification may have noted it in the block's tries before it looked at it.
            self.output.transactions_trie._data.pop(rlp.encode(Uint(len(self.transactions))), None)
            return
        raise AssertionError(f"{self.name}: the specification takes it: {named}")

    def finish(self):
        alloc = {}
        for address, account in self.full.items():
            if address == HISTORY_STORAGE_ADDRESS:
                continue
            entry = {"balance": str(account.get("balance", 0))}
            if account.get("code"):
                entry["code"] = "0x" + account["code"].hex()
            if account.get("nonce"):
                entry["nonce"] = account["nonce"]
            if account.get("storage"):
                entry["storage"] = {f"0x{k:064x}": f"0x{v:064x}" for k, v in account["storage"].items()}
            alloc["0x" + address.hex()] = entry
        result = {
            "name": self.name,
            "alloc": alloc,
            "transactions": self.transactions,
            "invalid": self.invalid,
            "state_root": hex0(state_root(self.state)),
            "receipts_root": hex0(root(self.output.receipts_trie)),
            "transactions_root": hex0(root(self.output.transactions_trie)),
            "bloom": hex0(logs_bloom(self.output.block_logs)),
            "gas_used": int(self.output.block_gas_used),
        }
        return result


def raw(tx):
    encoded = encode_transaction(tx)
    return hex0(rlp.encode(encoded) if isinstance(encoded, LegacyTransaction) else encoded)


def hex0(data):
    return "0x" + bytes(data).hex()


def random_block(seed):
    make = Maker(seed)
    rand = make.random
    alloc = {
        contract(n): {
            "nonce": 1,
            "code": make.program(24),
            "balance": rand.choice([0, 0, 1, 10**18]),
            "storage": {k: rand.choice([1, 5, 2**255]) for k in rand.sample(range(4), rand.randrange(3))},
        }
        for n in range(12)
    }
    world = World(f"random programs {seed}", alloc)
    for n in range(12):
        key = rand.choice(KEYS)
        kind = rand.choice([0, 1, 2, 2])
        gas = rand.choice([60_000, 100_000, 300_000, 2_000_000])
        data, value = rand.randbytes(rand.choice([0, 4, 36, 100])), rand.choice([0, 0, 1, 10**9])
        access = [(contract(rand.randrange(12)), [rand.randrange(4)]) for _ in range(rand.randrange(3))] if kind else ()
        if rand.random() < 0.2:
            data = make.program(16)
            world.run(kind, key, None, data, value, max(gas, 100_000), access)
        else:
            world.run(kind, key, contract(n), data, value, gas, access)
    return world.finish()


def opcode_block(op):
    make = Maker(op)
    alloc = {}
    for n in range(6):
        arguments = [make.argument(kind) for kind in OPCODES[op]]
        memory = push(make.random.getrandbits(256)) + push(0) + b"\x52"
        if RESULTS.get(op, 1):
            code = memory + store_result(op, *arguments)
        else:
            code = memory + b"".join(push(a) for a in reversed(arguments)) + bytes([op]) + push(0) + b"\x51" + push(0) + b"\x55"
        alloc[contract(n)] = {"nonce": 1, "code": code, "balance": 1000, "storage": {0: 9}}
    world = World(f"opcode {op:#04x}", alloc)
    for n in range(6):
        world.run(2, KEYS[0], contract(n), bytes(range(64)), 0, 400_000)
    return world.finish()


def precompile_blocks():
    blocks = {}
    for number, data in precompile_inputs(Maker(1)):
        blocks.setdefault(number, []).append(data)
    for number, inputs in blocks.items():
        world = World(f"precompile {number:#x}", {contract(number): {"nonce": 1, "code": call_precompile(number)}})
        for data in inputs:
            world.run(2, KEYS[0], contract(number), data, 0, 5_000_000)
            succeeded = get_storage(world.state, contract(number), Bytes32(b"\0" * 32))
            assert data != inputs[0] or succeeded == 1, f"precompile {number:#x} has no good input"
            # Called by the transaction itself, and with too little gas.
            world.run(2, KEYS[1], Address(number.to_bytes(20, "big")), data, 0, 1_000_000)
            world.run(2, KEYS[1], contract(number), data, 0, 90_000)
        yield world.finish()


def authorization(key, address, nonce, chain_id=CHAIN_ID):
    encoded = SET_CODE_TX_MAGIC + rlp.encode((U256(chain_id), Address(address), U64(nonce)))
    parity, r, s = sign(key, keccak256(encoded))
    return Authorization(
        chain_id=U256(chain_id), address=Address(address), nonce=U64(nonce), y_parity=U8(parity), r=U256(r), s=U256(s)
    )


def delegation_block():
    counter = bytes.fromhex("5f5460010180" + "5f55" + "5f5260205ff3")
    lister = bytes.fromhex("303f5f55303b600155303160025500")
    world = World("delegations (EIP-7702)", {
        contract(1): {"nonce": 1, "code": counter},
        contract(2): {"nonce": 1, "code": lister},
    })
    a, b, c = (address_of(key) for key in KEYS[1:4])
    world.run(4, KEYS[0], a, b"", 0, 500_000, (), [authorization(KEYS[1], contract(1), 0)])
    world.run(2, KEYS[0], a, b"", 5, 200_000)
    # A nonce that is wrong, any chain, another chain, a signature that is no one's.
    world.run(4, KEYS[0], b, b"", 0, 500_000, (), [
        authorization(KEYS[2], contract(2), 1),
        authorization(KEYS[2], contract(2), 0, chain_id=0),
        authorization(KEYS[3], contract(1), 0, chain_id=8),
    ])
    # One that has delegated sends by itself, and delegates for itself in its own transaction.
    world.nonces[b] = 1
    world.run(2, KEYS[2], a, b"", 1, 200_000)
    world.run(4, KEYS[3], c, b"", 0, 500_000, (), [authorization(KEYS[3], contract(1), 1)])
    world.nonces[c] = 2
    # A chain of delegations, and the end of one.
    world.run(4, KEYS[0], a, b"", 0, 500_000, (), [authorization(KEYS[1], b, 1), authorization(KEYS[1], contract(2), 2)])
    world.run(4, KEYS[0], a, b"", 3, 500_000, (), [authorization(KEYS[1], Address(b"\0" * 20), 3)])
    world.run(2, KEYS[3], c, b"", 0, 200_000)
    return world.finish()


def rules_block():
    """What single proposals brought, and what no block may hold."""
    returns = lambda code: push(int.from_bytes(code, "big")) + push(0) + b"\x52" + push(len(code)) + push(32 - len(code)) + b"\xf3"
    suicide = bytes.fromhex("73" + "bb" * 20 + "ff")
    # Makes a contract that ends itself in the same transaction (EIP-6780).
    short_lived = push(int.from_bytes(suicide, "big")) + push(0) + b"\x52" + push(len(suicide)) + push(32 - len(suicide)) + push(5) + b"\xf0" + push(0) + b"\x55"
    world = World("rules", {
        contract(1): {"nonce": 1, "code": suicide, "balance": 77, "storage": {1: 1}},
        contract(2): {"nonce": 1, "code": short_lived, "balance": 100},
        contract(3): {"nonce": 1, "code": bytes.fromhex("5f545f555f600155" + "600160015d60015c60025500"), "storage": {0: 3, 1: 4}},
        address_of(KEYS[3]): {"nonce": 0, "code": b"\x00", "balance": 10**20},
    })
    k = KEYS[0]
    world.run(0, k, Address(b"\xee" * 20), b"", 5, 21_000)
    world.run(2, k, contract(1))
    world.run(2, k, contract(1), b"", 3)
    world.run(2, k, contract(2))
    world.run(1, k, contract(3), b"", 0, 200_000, [(contract(3), [0, 1])])
    world.run(2, k, None, returns(b"\x60\x01"), 0, 200_000)
    world.run(2, k, None, returns(b"\xef\x00"), 0, 200_000)  # EIP-3541
    world.run(2, k, None, push(24577) + push(0) + b"\xf3", 0, 8_000_000)  # EIP-170
    world.run(2, k, None, push(24576) + push(0) + b"\xf3", 0, 8_000_000)
    world.run(2, k, Address(b"\xee" * 20), b"\x01" * 3000, 0, 21_000 + 3000 * 40)  # EIP-7623: the floor
    world.run(2, k, COINBASE, b"", 1, 21_000, max_fee=BASE_FEE, tip=0)
    data = b"\x01" * 3000
    world.refuse(2, k, Address(b"\xee" * 20), data, 0, 21_000 + 3000 * 40 - 1)
    world.refuse(2, k, Address(b"\xee" * 20), b"", 0, 20_999)
    world.refuse(2, k, contract(1), nonce=99)
    world.refuse(2, k, contract(1), nonce=0)
    world.refuse(2, k, contract(1), max_fee=BASE_FEE - 1, tip=0)
    world.refuse(2, k, contract(1), max_fee=10, tip=11)
    world.refuse(2, k, contract(1), b"", 10**22)
    world.refuse(2, k, None, b"\0" * 49_153, 0, 10_000_000)  # EIP-3860
    world.refuse(2, k, contract(1), gas=(1 << 24) + 1)  # EIP-7825
    world.refuse(4, k, contract(1))  # no authorization
    world.refuse(2, KEYS[3], contract(1))  # EIP-3607: the sender has code
    return world.finish()


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    blocks = [random_block(seed * 1_000_000 + n) for n in range(count)]
    blocks += [opcode_block(op) for op in OPCODES]
    blocks += list(precompile_blocks())
    blocks += [delegation_block(), rules_block()]
    world = {
        "specification": "PyPI ethereum-execution 2.20.0, fork osaka; made by make.py",
        "chain_id": CHAIN_ID,
        "base_fee": BASE_FEE,
        "gas_limit": GAS_LIMIT,
        "timestamp": TIMESTAMP,
        "parent_hash": hex0(PARENT),
        "coinbase": hex0(COINBASE),
        "blocks": blocks,
    }
    print("{" + ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in world.items() if k != "blocks") + ",")
    print('"blocks":[')
    print(",\n".join(json.dumps(block, separators=(",", ":")) for block in blocks))
    print("]}")


main()
