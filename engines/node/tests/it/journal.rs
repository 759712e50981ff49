//! What a client handed in is not lost with the node that took it.

use alloy_primitives::{Bytes, TxKind};
use serde_json::json;

use crate::net::{Net, RICH_KEY};
use crate::signer::Wallet;

#[test]
fn a_transaction_survives_the_kill_of_the_only_node_that_knows_it() {
    let mut net = Net::prepare(4, 0);
    net.nodes[0].start();
    net.nodes[0].wait("its client port", |node| node.height().is_some());
    // Alone it makes no block and has nobody to tell.
    let mut wallet = Wallet::new(RICH_KEY);
    let to = TxKind::Call("0x00000000000000000000000000000000000000aa".parse().unwrap());
    let sent: Vec<_> = (0..3).map(|_| wallet.send(to, 1, Bytes::new())).collect();
    for (hash, raw) in &sent {
        assert_eq!(net.nodes[0].result("eth_sendRawTransaction", json!([raw])), json!(hash));
    }
    net.nodes[0].kill();
    net.start_all();
    for node in [&net.nodes[0], &net.nodes[3]] {
        node.wait_height(1);
        for (hash, _) in &sent {
            node.wait("its receipt", |node| !node.result("eth_getTransactionReceipt", json!([hash])).is_null());
        }
    }
    // What is done is not kept.
    let journal = net.nodes[0].home.join("data/pool.journal");
    net.nodes[0].wait("an empty journal", |_| std::fs::metadata(&journal).unwrap().len() == 5);
}
