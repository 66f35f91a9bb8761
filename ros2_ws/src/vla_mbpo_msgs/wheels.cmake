# What a message package needs where ROS 2 comes as wheels. Included by the package itself and by ros2_ws/wheels.

# pip build: there is no sourced ROS install, the build requirements brought the ament and rosidl packages as wheels.
# They lie in the prefix of the Python environment that holds ament_package.
macro(use_wheels)
  find_package(Python3 REQUIRED COMPONENTS Interpreter Development.Module NumPy)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -c
            "import ament_package, pathlib; print(pathlib.Path(ament_package.__file__).parents[4])"
    OUTPUT_VARIABLE ros_wheels_prefix
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  list(PREPEND CMAKE_PREFIX_PATH "${ros_wheels_prefix}")
  set(ENV{AMENT_PREFIX_PATH} "${ros_wheels_prefix}")
endmacro()

# The wheels' Python generator targets name an include folder of the machine that built them; CMake refuses to use a
# target with a missing one. On a ROS install every folder exists and nothing is dropped.
macro(drop_missing_folders)
  get_property(imported_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(imported IN LISTS imported_targets)
    if(imported MATCHES "__rosidl_generator_py$")
      get_target_property(folders ${imported} INTERFACE_INCLUDE_DIRECTORIES)
      set(existing "")
      foreach(folder IN LISTS folders)
        if(EXISTS "${folder}")
          list(APPEND existing "${folder}")
        endif()
      endforeach()
      set_target_properties(${imported} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
    endif()
  endforeach()
endmacro()
