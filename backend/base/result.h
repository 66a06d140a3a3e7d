// The one result type of vmhop: a value or an Error that says what failed, where, and what the
// user can do. No exception crosses a module, no function reports failure by a bool.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace vmhop {

// What a caller may want to tell apart; everything else is in the message.
enum class ErrorKind {
  kFailed,    // the general case
  kRefused,   // the other side, or a check made beforehand, said no: retrying changes nothing
  kTimedOut,  // nothing came in time
  kClosed,    // the connection or process on the other side is gone
  kAborted,   // somebody asked for it
};

// What a kind is called between processes: "failed", "refused", "timed_out", …
const char* kind_name(ErrorKind kind);
// The kind of that name; kFailed, the general case, for a name that is unknown here.
ErrorKind kind_named(std::string_view name);

class Error {
 public:
  explicit Error(std::string message, ErrorKind kind = ErrorKind::kFailed)
      : message_(std::move(message)), kind_(kind) {}

  // An error made of a failed system call: "<what>: <strerror(errno_value)>".
  static Error from_errno(std::string_view what, int errno_value);

  const std::string& message() const { return message_; }
  ErrorKind kind() const { return kind_; }

  // Adds what the caller was doing, outermost first: "relocating x: connecting to y: refused".
  Error with(std::string_view context) const {
    return Error(fmt::format("{}: {}", context, message_), kind_);
  }

 private:
  std::string message_;
  ErrorKind kind_;
};

template <typename... Args>
Error errorf(fmt::format_string<Args...> format, Args&&... args) {
  return Error(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error refusedf(fmt::format_string<Args...> format, Args&&... args) {
  return Error(fmt::format(format, std::forward<Args>(args)...), ErrorKind::kRefused);
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  // Only when ok().
  T& value() & { return std::get<T>(state_); }
  const T& value() const& { return std::get<T>(state_); }
  T&& value() && { return std::get<T>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // Only when !ok().
  const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }  // NOLINT(bugprone-unchecked-optional-access)

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;
inline Status ok_status() {
  return {};
}

}  // namespace vmhop

#define VMHOP_CONCAT_INNER(a, b) a##b
#define VMHOP_CONCAT(a, b) VMHOP_CONCAT_INNER(a, b)

// Returns the error of `expression` from the enclosing function, if it has one.
#define VMHOP_TRY(expression)                              \
  do {                                                     \
    if (auto vmhop_status = (expression); !vmhop_status) { \
      return vmhop_status.error();                         \
    }                                                      \
  } while (false)

// VMHOP_ASSIGN(auto x, f()): x is the value of f(), or the enclosing function returns its error.
#define VMHOP_ASSIGN(declaration, expression) \
  VMHOP_ASSIGN_INNER(VMHOP_CONCAT(vmhop_result_, __LINE__), declaration, expression)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses, nor can a
// name that is being declared.
#define VMHOP_ASSIGN_INNER(result, declaration, expression) \
  auto result = (expression);                               \
  if (!result) return result.error();                       \
  declaration = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)
