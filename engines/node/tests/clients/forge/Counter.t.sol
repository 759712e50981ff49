// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Counter} from "../src/Counter.sol";

/// Run by `forge test` in its own EVM, and against a chain's state with --fork-url.
contract CounterTest {
    bool public constant IS_TEST = true;

    function testCounts() external {
        Counter counter = new Counter();
        counter.add(7);
        require(counter.count() == 7, "not counted");
    }

    function testRefusesZero() external {
        Counter counter = new Counter();
        try counter.add(0) {
            revert("zero was taken");
        } catch Error(string memory reason) {
            require(keccak256(bytes(reason)) == keccak256("amount is zero"), reason);
        }
    }
}
