// Results in GoogleTest: a test ends with the error's own message.
#pragma once

#include <gtest/gtest.h>

#include "backend/base/result.h"

#define ASSERT_OK(expression)                                          \
  do {                                                                 \
    if (auto vmhop_result = (expression); !vmhop_result) {             \
      FAIL() << #expression << ": " << vmhop_result.error().message(); \
    }                                                                  \
  } while (false)

#define EXPECT_OK(expression)                                                 \
  do {                                                                        \
    if (auto vmhop_result = (expression); !vmhop_result) {                    \
      ADD_FAILURE() << #expression << ": " << vmhop_result.error().message(); \
    }                                                                         \
  } while (false)

// ASSERT_VALUE(auto x, f()): x is the value of f(), or the test ends.
#define ASSERT_VALUE(declaration, expression) \
  ASSERT_VALUE_INNER(VMHOP_CONCAT(vmhop_result_, __LINE__), declaration, expression)
#define ASSERT_VALUE_INNER(result, declaration, expression)               \
  auto result = (expression);                                             \
  if (!result) FAIL() << #expression << ": " << result.error().message(); \
  declaration = std::move(result).value()
