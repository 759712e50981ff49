// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// The smallest contract that shows storage, an event, a view and a revert with a reason.
contract Counter {
    uint256 public count;
    event Added(address indexed by, uint256 amount);

    function add(uint256 amount) external {
        require(amount > 0, "amount is zero");
        count += amount;
        emit Added(msg.sender, amount);
    }
}
