// ethers against a node: everyday work over HTTP and WebSocket. Ends with an error at the first thing that is not right.
const assert = require('node:assert');
const fs = require('node:fs');
const { ethers } = require('ethers');

const { RPC, WS, KEY, ABI, CODE } = process.env;
const abi = JSON.parse(fs.readFileSync(ABI, 'utf8'));
const code = fs.readFileSync(CODE, 'utf8').trim();
const OTHER = '0x70997970C51812dc3A010C7d01b50e0d17dc79C8';

// The first value that `start` hands over; never waits longer than this.
function first(what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} within 20 s`)), 20000);
    start((value) => { clearTimeout(timer); resolve(value); });
  });
}

async function main() {
  const http = new ethers.JsonRpcProvider(RPC, undefined, { pollingInterval: 200, batchMaxCount: 10, cacheTimeout: -1 });
  const ws = new ethers.WebSocketProvider(WS);
  const wallet = new ethers.Wallet(KEY, http);
  assert.equal((await http.getNetwork()).chainId, 412346n);

  const fees = await http.getFeeData();
  // ethers takes a base fee of zero for none and sends transactions of the older type.
  assert.equal(fees.gasPrice, 0n);
  const sent = await wallet.sendTransaction({ to: OTHER, value: 5n });
  const pendingNonce = await http.getTransactionCount(wallet.address, 'pending');
  assert.ok(pendingNonce > sent.nonce);
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  assert.equal((await http.getTransaction(sent.hash)).blockNumber, receipt.blockNumber);
  const block = await http.getBlock(receipt.blockNumber, true);
  assert.equal(block.prefetchedTransactions[0].hash, sent.hash);

  const factory = new ethers.ContractFactory(abi, code, wallet);
  const probe = await (await factory.deploy(5n)).waitForDeployment();
  const address = await probe.getAddress();
  assert.equal(await probe.total(), 5n);
  const heard = new ethers.Contract(address, abi, ws);
  const event = first('event over WebSocket', (done) => heard.on('Tagged', (by, tag, value) => done(value)));
  const head = first('block over WebSocket', (done) => ws.once('block', done));
  const waiting = first('waiting transaction over WebSocket', (done) => ws.once('pending', done));
  await ws.getBlockNumber();
  const tag = ethers.id('tag');
  const noted = await (await probe.note(tag, 7n)).wait();
  assert.equal(noted.logs.length, 2);
  assert.equal(await event, 7n);
  assert.ok(await head > 0);
  assert.match(await waiting, /^0x[0-9a-f]{64}$/);
  const past = await probe.queryFilter(probe.filters.Tagged(wallet.address, tag), 0);
  assert.equal(past.length, 1);
  assert.equal(past[0].args.value, 7n);

  await assert.rejects(probe.failReason.staticCall(), (e) => e.code === 'CALL_EXCEPTION' && e.reason === 'not today');
  await assert.rejects(probe.failCustom.staticCall(), (e) => e.revert.name === 'TooMuch' && e.revert.args[0] === 7n);
  await assert.rejects(probe.failPanic.staticCall(0n), (e) => e.code === 'CALL_EXCEPTION' && /DIVIDE_BY_ZERO/.test(e.reason));
  await assert.rejects(probe.failReason.send(), (e) => e.code === 'CALL_EXCEPTION', 'estimating says so before sending');
  const failing = await probe.failReason.send({ gasLimit: 100000n });
  await assert.rejects(failing.wait(), (e) => e.code === 'CALL_EXCEPTION' && e.receipt.status === 0);
  await assert.rejects(wallet.sendTransaction({ to: OTHER, nonce: 0 }), (e) => e.code === 'NONCE_EXPIRED');
  const poor = ethers.Wallet.createRandom().connect(http);
  await assert.rejects(poor.sendTransaction({ to: OTHER, value: 1n, gasLimit: 21000n }), (e) => e.code === 'INSUFFICIENT_FUNDS');

  const proof = await http.send('eth_getProof', [address, ['0x1'], 'latest']);
  assert.equal(BigInt(proof.storageProof[0].value), 12n);
  await heard.removeAllListeners();
  await ws.destroy();
  http.destroy();
}

main().then(() => console.log('ok'), (error) => { console.error(error); process.exit(1); });
