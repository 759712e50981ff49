// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// What clients ask about: events of several shapes, all kinds of reverts, refunds, inner calls, contracts that make
/// contracts, and what a call sees of its block.
contract Probe {
    error TooMuch(uint256 wanted, address by);

    event Plain(uint256 value);
    event Tagged(address indexed by, bytes32 indexed tag, uint256 value);

    mapping(uint256 => uint256) public slots;
    uint256 public total;
    address public child;

    constructor(uint256 start) payable {
        total = start;
    }

    function note(bytes32 tag, uint256 value) external payable {
        total += value;
        emit Plain(value);
        emit Tagged(msg.sender, tag, value);
    }

    /// Writes `count` slots, or clears them, which gives gas back at the end.
    function fill(uint256 count, uint256 value) external {
        for (uint256 i = 0; i < count; i++) slots[i] = value;
    }

    function failPlain() external pure {
        revert();
    }

    function failReason() external pure {
        revert("not today");
    }

    function failCustom() external view {
        revert TooMuch(7, msg.sender);
    }

    function failPanic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    function failAssert() external pure {
        assert(false);
    }

    function burn() external pure {
        while (true) {}
    }

    /// Each level calls the next: every call keeps back 1/64 of the gas.
    function deep(uint256 levels) external {
        if (levels == 0) {
            total += 1;
        } else {
            this.deep(levels - 1);
        }
    }

    function make() external returns (address) {
        Child made = new Child(total);
        child = address(made);
        return child;
    }

    function ask() external view returns (uint256) {
        return Child(child).value();
    }

    function world() external view returns (uint256, uint256, address, uint256, uint256, uint256) {
        return (block.number, block.timestamp, msg.sender, block.chainid, block.gaslimit, block.basefee);
    }

    function give(address payable to) external payable {
        (bool ok,) = to.call{value: msg.value}("");
        require(ok, "the receiver refuses");
    }
}

contract Child {
    uint256 public value;

    constructor(uint256 start) {
        value = start;
    }
}
