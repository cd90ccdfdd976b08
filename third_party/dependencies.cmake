# Every dependency, found once, with its least version: Debian 12's. Included, not added:
# imported targets are visible only in the directory that finds them and below.
find_package(absl REQUIRED)
# Debian's targets name the shared libraries; the static ones lie beside them.
get_property(WISP_IMPORTED DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(NAME IN LISTS WISP_IMPORTED)
  get_target_property(SHARED ${NAME} IMPORTED_LOCATION_NONE)
  if("${NAME}" MATCHES "^absl::" AND SHARED)
    string(REGEX REPLACE "\\.so[.0-9]*$" ".a" STATIC ${SHARED})
    if(EXISTS ${STATIC})
      set_target_properties(${NAME} PROPERTIES IMPORTED_LOCATION_NONE ${STATIC})
    endif()
  endif()
endforeach()
find_package(Protobuf 3.21 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_path(TOMLPLUSPLUS_INCLUDE_DIR toml++/toml.h REQUIRED)
find_library(MD_STATIC_LIBRARY libmd.a REQUIRED)

# Not fmt's own target, which is the shared library.
get_target_property(FMT_INCLUDE_DIR fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
add_library(wisp_fmt STATIC ${CMAKE_CURRENT_LIST_DIR}/fmt.cc)
target_include_directories(wisp_fmt SYSTEM PUBLIC ${FMT_INCLUDE_DIR})
target_compile_options(wisp_fmt PRIVATE
  -fno-exceptions -fno-rtti -ffunction-sections -fdata-sections)

# Header-only, and not spdlog's own target, which brings the shared libfmt.
add_library(wisp_spdlog INTERFACE)
target_link_libraries(wisp_spdlog INTERFACE wisp_fmt)
target_compile_definitions(wisp_spdlog INTERFACE
  SPDLOG_HEADER_ONLY SPDLOG_FMT_EXTERNAL SPDLOG_NO_EXCEPTIONS)

add_library(wisp_json INTERFACE)
target_link_libraries(wisp_json INTERFACE nlohmann_json::nlohmann_json)
target_compile_definitions(wisp_json INTERFACE JSON_NOEXCEPTION)

add_library(wisp_toml INTERFACE)
target_include_directories(wisp_toml SYSTEM INTERFACE ${TOMLPLUSPLUS_INCLUDE_DIR})
target_compile_definitions(wisp_toml INTERFACE TOML_EXCEPTIONS=0 TOML_HEADER_ONLY=1)

# SHA-256 for the name of the socket.
add_library(wisp_md INTERFACE)
target_link_libraries(wisp_md INTERFACE ${MD_STATIC_LIBRARY})

# The lite runtime, static.
find_library(PROTOBUF_LITE_STATIC libprotobuf-lite.a REQUIRED)
find_package(Threads REQUIRED)
add_library(wisp_protobuf INTERFACE)
target_include_directories(wisp_protobuf SYSTEM INTERFACE ${Protobuf_INCLUDE_DIRS})
target_link_libraries(wisp_protobuf INTERFACE ${PROTOBUF_LITE_STATIC} Threads::Threads)

add_library(wisp_absl INTERFACE)
target_link_libraries(wisp_absl INTERFACE
  absl::any_invocable absl::status absl::statusor absl::strings absl::time)

# gRPC, without TLS, static: for the program that speaks it, and no other.
if(WISP_GRPC)
  add_library(wisp_grpcpp INTERFACE)
  foreach(NAME grpc++_unsecure grpc_unsecure gpr address_sorting upb re2 cares z)
    find_library(WISP_${NAME}_STATIC lib${NAME}.a REQUIRED)
    target_link_libraries(wisp_grpcpp INTERFACE ${WISP_${NAME}_STATIC})
  endforeach()
  find_path(GRPCPP_INCLUDE_DIR grpcpp/server_posix.h REQUIRED)
  target_include_directories(wisp_grpcpp SYSTEM INTERFACE ${GRPCPP_INCLUDE_DIR})
  # What libgrpc wants of Abseil (grpc.pc).
  foreach(NAME
      any_invocable base bind_front cleanup cord flat_hash_map flat_hash_set function_ref
      hash inlined_vector memory optional random_random span status statusor str_format
      strings synchronization time type_traits utility variant)
    target_link_libraries(wisp_grpcpp INTERFACE absl::${NAME})
  endforeach()
  target_link_libraries(wisp_grpcpp INTERFACE Threads::Threads ${CMAKE_DL_LIBS})
endif()

if(WISP_TESTS)
  find_package(GTest 1.12 REQUIRED)
  find_package(benchmark 1.7 REQUIRED)
endif()
