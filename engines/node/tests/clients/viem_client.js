// viem against a node: everyday work over HTTP and WebSocket. Ends with an error at the first thing that is not right.
const assert = require('node:assert');
const fs = require('node:fs');
const viem = require('viem');
const { privateKeyToAccount } = require('viem/accounts');

const { RPC, WS, KEY, ABI, CODE } = process.env;
const abi = JSON.parse(fs.readFileSync(ABI, 'utf8'));
const bytecode = fs.readFileSync(CODE, 'utf8').trim();
const OTHER = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';
const chain = viem.defineChain({
  id: 412346, name: 'ledger', nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
  rpcUrls: { default: { http: [RPC], webSocket: [WS] } },
});

function first(what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} within 20 s`)), 20000);
    const stop = start((value) => { clearTimeout(timer); resolve(value); if (stop) stop(); }, reject);
  });
}

async function main() {
  const account = privateKeyToAccount(KEY);
  const http = viem.createPublicClient({ chain, transport: viem.http(RPC, { batch: true }), pollingInterval: 200 });
  const ws = viem.createPublicClient({ chain, transport: viem.webSocket(WS) });
  const wallet = viem.createWalletClient({ account, chain, transport: viem.http(RPC) });
  assert.equal(await http.getChainId(), 412346);
  await http.estimateFeesPerGas();
  await http.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] });

  const hash = await wallet.sendTransaction({ to: OTHER, value: 5n });
  const receipt = await http.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, 'success');
  assert.equal(receipt.type, 'eip1559');

  const made = await http.waitForTransactionReceipt({ hash: await wallet.deployContract({ abi, bytecode, args: [5n] }) });
  const address = made.contractAddress;
  const read = (functionName, args) => http.readContract({ address, abi, functionName, args });
  assert.equal(await read('total'), 5n);
  const event = first('event over WebSocket', (done, failed) =>
    ws.watchContractEvent({ address, abi, eventName: 'Tagged', onLogs: (logs) => done(logs[0].args.value), onError: failed }));
  const head = first('block over WebSocket', (done, failed) => ws.watchBlocks({ onBlock: (b) => done(b.number), onError: failed }));
  const waiting = first('waiting transaction', (done, failed) =>
    ws.watchPendingTransactions({ onTransactions: (hashes) => done(hashes[0]), onError: failed }));
  // Filters, polled over HTTP.
  const filter = await http.createContractEventFilter({ address, abi, eventName: 'Tagged' });
  const blocks = await http.createBlockFilter();
  const pool = await http.createPendingTransactionFilter();
  await ws.getBlockNumber();

  const { request, result } = await http.simulateContract({ account, address, abi, functionName: 'make' });
  assert.match(result, /^0x[0-9a-fA-F]{40}$/);
  await http.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
  assert.equal(await read('ask'), 5n);
  const tag = viem.keccak256(viem.toHex('tag'));
  const noted = await wallet.writeContract({ address, abi, functionName: 'note', args: [tag, 7n] });
  await http.waitForTransactionReceipt({ hash: noted });
  assert.equal(await event, 7n);
  assert.ok(await head > 0n);
  assert.match(await waiting, /^0x[0-9a-f]{64}$/);
  const changes = await http.getFilterChanges({ filter });
  assert.equal(changes.length, 1);
  assert.equal(changes[0].args.value, 7n);
  assert.equal((await http.getFilterChanges({ filter })).length, 0);
  // Without a first block it would ask for the newest one alone, whatever that is by now.
  const since = await http.createContractEventFilter({ address, abi, eventName: 'Tagged', fromBlock: made.blockNumber });
  assert.equal((await http.getFilterLogs({ filter: since })).length, 1);
  assert.ok((await http.getFilterChanges({ filter: blocks })).length >= 2);
  assert.ok((await http.getFilterChanges({ filter: pool })).includes(noted));
  assert.ok(await http.uninstallFilter({ filter }));

  const revertOf = async (functionName, args) => {
    try { await http.simulateContract({ account, address, abi, functionName, args }); } catch (error) {
      return error.walk((e) => e instanceof viem.ContractFunctionRevertedError);
    }
    throw new Error(`${functionName} did not revert`);
  };
  assert.equal((await revertOf('failReason')).reason, 'not today');
  assert.equal((await revertOf('failCustom')).data.errorName, 'TooMuch');
  assert.match((await revertOf('failPanic', [0n])).reason, /[Dd]ivi/);
  await assert.rejects(wallet.sendTransaction({ to: OTHER, nonce: 0 }), (e) => e.walk((x) => x instanceof viem.NonceTooLowError) !== null);

  // State overrides, access lists, a call at an older block, a proof.
  const stateOverride = [{ address, stateDiff: [{ slot: viem.pad('0x1'), value: viem.pad('0x63') }] }];
  assert.equal(await http.readContract({ address, abi, functionName: 'total', stateOverride }), 99n);
  const data = viem.encodeFunctionData({ abi, functionName: 'fill', args: [2n, 0n] });
  const list = await http.createAccessList({ account, to: address, data });
  assert.equal(list.accessList.length, 1);
  assert.equal(await http.readContract({ address, abi, functionName: 'total', blockNumber: made.blockNumber }), 5n);
  const proof = await http.getProof({ address, storageKeys: [viem.pad('0x1')] });
  assert.equal(proof.storageProof[0].value, 12n);
}

main().then(() => { console.log('ok'); process.exit(0); }, (error) => { console.error(error); process.exit(1); });
