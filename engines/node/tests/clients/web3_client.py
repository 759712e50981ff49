"""web3.py against a node: everyday work over HTTP and WebSocket. Ends with an error at the first thing that is not right."""

import asyncio
import json
import os

from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError, ContractPanicError, Web3RPCError

ABI = json.load(open(os.environ["ABI"]))
CODE = open(os.environ["CODE"]).read().strip()
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def refused(kind, call, text):
    try:
        call()
    except kind as error:
        assert text in str(error), f"{error!r} does not say {text!r}"
        return
    raise AssertionError(f"no {kind.__name__} that says {text!r}")


def over_http():
    w3 = Web3(Web3.HTTPProvider(os.environ["RPC"]))
    assert w3.is_connected()
    assert w3.eth.chain_id == 412346
    account = w3.eth.account.from_key(os.environ["KEY"])

    def send(transaction):
        transaction = {"from": account.address, "nonce": w3.eth.get_transaction_count(account.address, "pending"), **transaction}
        transaction.setdefault("chainId", w3.eth.chain_id)
        if "gas" not in transaction:
            transaction["gas"] = w3.eth.estimate_gas(transaction)
        tip = w3.eth.max_priority_fee
        transaction.setdefault("maxPriorityFeePerGas", tip)
        transaction.setdefault("maxFeePerGas", 2 * w3.eth.get_block("latest").get("baseFeePerGas", 0) + tip)
        raw = account.sign_transaction(transaction).raw_transaction
        return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(raw), timeout=20, poll_latency=0.1)

    assert send({"to": OTHER, "value": 5})["status"] == 1
    fees = w3.eth.fee_history(2, "latest", [10, 90])
    assert len(fees["gasUsedRatio"]) == 2
    factory = w3.eth.contract(abi=ABI, bytecode=CODE)
    made = send({"data": factory.constructor(5).data_in_transaction})
    probe = w3.eth.contract(address=made["contractAddress"], abi=ABI)
    assert probe.functions.total().call() == 5
    tag = Web3.keccak(text="tag")
    polled = probe.events.Tagged.create_filter(from_block="latest")
    receipt = send({"to": probe.address, "data": probe.encode_abi("note", [tag, 7])})
    assert probe.events.Tagged().process_receipt(receipt)[0]["args"]["value"] == 7
    past = probe.events.Tagged.get_logs(from_block=0, argument_filters={"tag": tag})
    assert [log["args"]["value"] for log in past] == [7]
    assert [log["args"]["value"] for log in polled.get_new_entries()] == [7]
    assert probe.functions.total().call(block_identifier=made["blockNumber"]) == 5

    refused(ContractLogicError, lambda: probe.functions.failReason().call(), "not today")
    refused(ContractCustomError, lambda: probe.functions.failCustom().call(), "bb2318fe")
    refused(ContractPanicError, lambda: probe.functions.failPanic(0).call(), "ivi")
    refused(ContractLogicError, lambda: probe.functions.failReason().estimate_gas(), "not today")
    old = account.sign_transaction(
        {"to": OTHER, "value": 1, "nonce": 0, "gas": 21000, "gasPrice": 0, "chainId": w3.eth.chain_id}
    )
    refused(Web3RPCError, lambda: w3.eth.send_raw_transaction(old.raw_transaction), "nonce too low")
    proof = w3.eth.get_proof(probe.address, [1])
    assert int(proof["storageProof"][0]["value"].hex(), 16) == 12
    assert w3.eth.syncing is False
    return probe.address, send


async def over_websocket(address, send):
    async with AsyncWeb3(WebSocketProvider(os.environ["WS"])) as w3:
        probe = w3.eth.contract(address=address, abi=ABI)
        heads = await w3.eth.subscribe("newHeads")
        logs = await w3.eth.subscribe("logs", {"address": address, "topics": [probe.events.Plain().topic]})
        waiting = await w3.eth.subscribe("newPendingTransactions")
        loop = asyncio.get_running_loop()
        sent = loop.run_in_executor(None, send, {"to": address, "data": probe.encode_abi("note", [b"\1" * 32, 3])})
        seen = {}

        async def listen():
            async for message in w3.socket.process_subscriptions():
                seen.setdefault(message["subscription"], message["result"])
                if len(seen) == 3:
                    return

        await asyncio.wait_for(listen(), 20)
        receipt = await sent
        assert seen[heads]["number"] > 0
        assert seen[logs]["transactionHash"] == receipt["transactionHash"]
        assert seen[waiting] == receipt["transactionHash"]
        assert await w3.eth.unsubscribe(heads)


address, send = over_http()
asyncio.run(over_websocket(address, send))
print("ok")
