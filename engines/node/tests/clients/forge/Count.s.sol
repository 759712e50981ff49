// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Counter} from "../src/Counter.sol";

/// What forge gives scripts at this address; forge-std has it whole.
interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploys a counter and counts to 42, in three transactions.
contract Count {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bool public constant IS_SCRIPT = true;

    function run() external returns (Counter counter) {
        VM.startBroadcast();
        counter = new Counter();
        counter.add(40);
        counter.add(2);
        VM.stopBroadcast();
        require(counter.count() == 42, "not counted");
    }
}
