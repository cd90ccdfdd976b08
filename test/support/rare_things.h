// What random schedules must meet now and then, or they test nothing.
#ifndef WISP_TEST_SUPPORT_RARE_THINGS_H_
#define WISP_TEST_SUPPORT_RARE_THINGS_H_

#include <array>
#include <map>
#include <string_view>

namespace wisp {

inline constexpr std::string_view kEarlyInit =
    "init's exit before its Start returned";
inline constexpr std::string_view kEarlyExec =
    "an exec's exit before its Start returned";
inline constexpr std::string_view kDeathInFlight =
    "init's death with an exec start in flight";
inline constexpr std::string_view kHeldExit =
    "init's exit held for a running exec";
inline constexpr std::string_view kUnstartedExit =
    "init's exit without its start";
inline constexpr std::string_view kRefusedExec =
    "exec refused after init's death";
inline constexpr std::string_view kSecondCreate =
    "second Create of a living id";
inline constexpr std::string_view kSecondStart = "second Start of an exec";
inline constexpr std::string_view kLostCreate = "connection lost: Create";
inline constexpr std::string_view kLostStart = "connection lost: Start";
inline constexpr std::string_view kLostExecStart =
    "connection lost: Start of an exec";
inline constexpr std::string_view kLostDelete = "connection lost: Delete";
inline constexpr std::string_view kLostWait = "connection lost: Wait";
inline constexpr std::string_view kLateCreate = "deadline: Create";
inline constexpr std::string_view kLateStart = "deadline: Start";
inline constexpr std::string_view kLateExecStart = "deadline: Start of an exec";
inline constexpr std::string_view kLateReader =
    "deadline: Start of an exec that waits for its stdio";
inline constexpr std::string_view kLateDelete = "deadline: Delete";
inline constexpr std::string_view kLimitCreate =
    "runtime killed at its limit: create";
inline constexpr std::string_view kLimitStart =
    "runtime killed at its limit: start";
inline constexpr std::string_view kLimitExec =
    "runtime killed at its limit: exec";
inline constexpr std::string_view kFailedCreate = "runtime failed: create";
inline constexpr std::string_view kFailedStart = "runtime failed: start";
inline constexpr std::string_view kFailedExec = "runtime failed: exec";
inline constexpr std::string_view kFailedDelete = "runtime failed: delete";
inline constexpr std::string_view kJoinedDelete = "Delete joined another";
inline constexpr std::string_view kKeptDelete =
    "answer kept of a Delete whose caller had gone";
inline constexpr std::string_view kDeleteInCreate = "Delete during Create";

inline constexpr std::array kRareThings = {
    kEarlyInit,     kEarlyExec,    kDeathInFlight, kHeldExit,    kUnstartedExit,
    kRefusedExec,   kSecondCreate, kSecondStart,   kLostCreate,  kLostStart,
    kLostExecStart, kLostDelete,   kLostWait,      kLateCreate,  kLateStart,
    kLateExecStart, kLateReader,   kLateDelete,    kLimitCreate, kLimitStart,
    kLimitExec,     kFailedCreate, kFailedStart,   kFailedExec,  kFailedDelete,
    kJoinedDelete,  kKeptDelete,   kDeleteInCreate};

// How often each of them has happened; of those that have.
using Tally = std::map<std::string_view, int>;

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_RARE_THINGS_H_
