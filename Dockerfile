# syntax=docker/dockerfile:1
# Stages: base (ROS 2 and system libraries), packages and build (left behind), runtime (no torch), trainer (with torch).
#   docker build --target runtime -t vla_mbpo:runtime .
#   docker build --target trainer -t vla_mbpo:trainer .
ARG ROS_DISTRO=kilted
FROM ros:${ROS_DISTRO}-ros-base AS base
ENV DEBIAN_FRONTEND=noninteractive \
    VLA_MBPO_HOME=/data \
    MUJOCO_GL=egl \
    PYTHONPATH=/opt/vla_mbpo/packages \
    PYTHONUNBUFFERED=1
WORKDIR /src
# What package.xml asks for, without what only shows things on a screen; and EGL, which renders without one.
COPY package.xml ./
COPY ros2_ws/src/vla_mbpo_msgs/package.xml ros2_ws/src/vla_mbpo_msgs/
RUN apt-get update \
    && rosdep update --rosdistro "${ROS_DISTRO}" \
    && rosdep install --rosdistro "${ROS_DISTRO}" --from-paths . --ignore-src -y --dependency-types exec \
        --skip-keys "rviz2 vla_mbpo_msgs" \
    && apt-get install -y --no-install-recommends libegl1 libgl1 libgl1-mesa-dri libusb-1.0-0 \
    && rm -rf /var/lib/apt/lists/*
# Cameras, gamepads and a GPU belong to groups whose numbers are the host's: compose.yaml adds them.
RUN useradd --uid 10001 --create-home --shell /bin/bash robot \
    && mkdir -p /data && chown robot:robot /data

FROM base AS packages
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
COPY requirements/apt.lock requirements/
# Beside the distribution's Python and not over it; with --require-hashes nothing that is not in the lock gets in.
RUN python3 -m pip install --no-cache-dir --require-hashes --target /opt/vla_mbpo/packages \
        -r requirements/apt.lock

FROM packages AS build
COPY ros2_ws ros2_ws
COPY setup.py setup.cfg pyproject.toml ./
COPY resource resource
COPY launch launch
COPY config config
COPY calibration calibration
COPY models models
COPY src src
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN source "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && cd ros2_ws \
    && colcon build --base-paths .. src --install-base /opt/vla_mbpo/install --merge-install \
        --cmake-args -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF

FROM base AS runtime
COPY --from=packages /opt/vla_mbpo/packages /opt/vla_mbpo/packages
COPY --from=build /opt/vla_mbpo/install /opt/vla_mbpo/install
COPY docker/entrypoint.sh /entrypoint.sh
USER robot
WORKDIR /data
VOLUME /data
ENTRYPOINT ["/entrypoint.sh"]
# Healthy when the lifecycle manager says that every node is active.
HEALTHCHECK --interval=30s --timeout=15s --start-period=90s --retries=3 \
    CMD ["/entrypoint.sh", "vla-mbpo", "doctor", "--stack"]
CMD ["vla-mbpo", "up", "--headless"]

FROM packages AS training-packages
COPY requirements/train.lock requirements/
RUN python3 -m pip install --no-cache-dir --require-hashes --target /opt/vla_mbpo/training \
        -r requirements/train.lock

FROM runtime AS trainer
COPY --from=training-packages /opt/vla_mbpo/training /opt/vla_mbpo/training
ENV PYTHONPATH=/opt/vla_mbpo/training
HEALTHCHECK NONE
CMD ["vla-mbpo", "train", "--help"]
